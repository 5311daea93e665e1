"""The panel "Open": a folder by button, typing or drag and drop; the visits found, to be corrected before running."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_convlstm_tumor._napari.found import Found, ImageRow, find_steps, manifest_text
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.parts import CAUTION_COLOUR, button, named, row, sentence
from napari_convlstm_tumor._napari.reader import is_result
from napari_convlstm_tumor._napari.worker import Failure, open_steps
from napari_convlstm_tumor.errors import InputError, TumorError
from napari_convlstm_tumor.series import MODALITIES, PatientFiles
from napari_convlstm_tumor.settings import Settings

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget

HEADER = ("visit", "day", "image", "size", "file")
VISIT, DAY, IMAGE, SIZE, FILE = range(5)
MANIFEST_FILE = "manifest.csv"
NO_DAY = ""
MASKS_THERE = "Tumor masks lie beside the images and are used as they are (Settings: masks). "


class OpenPanel(QWidget):
    """What is there, and what a person knows better."""

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self._job: Job | None = None
        self.found: Found | None = None
        self._scratch: Any = None
        self.folder = named(QLineEdit(), "Folder", "Patient folder, DICOM tree, manifest CSV or result folder")
        self.folder.setPlaceholderText("folder, manifest CSV or result; or drop one here")
        self.folder.returnPressed.connect(self.look)
        self.table = named(QTableWidget(), "Visits found", "Correct the day or the kind of image where it is wrong")
        self.problems = sentence()
        self.problems.setStyleSheet(f"color: {CAUTION_COLOUR};")
        self.reference = named(QComboBox(), "Reference visit", "The visit whose space the others are laid on")
        self.reference.activated.connect(self._set_reference)
        self.show_button = button("Show images", self._show, "See the images as they lie, before anything is computed")
        self.keep_button = button(
            "Save as manifest...", self._ask_manifest, "Write the table, with your corrections, for batch"
        )
        layout = QVBoxLayout(self)
        layout.addLayout(row(self.folder, button("Choose...", self._choose, "Choose a folder")))
        layout.addLayout(row(self.show_button, self.keep_button))
        layout.addWidget(self.table, stretch=1)
        self._reference_row = QWidget()
        self._reference_row.setLayout(row(sentence("Reference visit"), self.reference))
        layout.addWidget(self._reference_row)
        layout.addWidget(self.problems)
        layout.addStretch()
        self.setAcceptDrops(True)
        self._clear()
        self.folder.textChanged.connect(self._clear)  # the table of one folder must not go with another

    # ---- choosing ----

    def open(self, place: Path) -> None:
        """Choose a place and look into it."""
        self.folder.setText(str(place))
        self.look()

    def look(self) -> None:
        """Find the visits in the chosen place, in a thread."""
        place = Path(self.folder.text().strip()).expanduser()
        self._clear()
        self.show_button.setEnabled(bool(self.folder.text().strip()))
        if not self.folder.text().strip() or is_result(place):
            return
        settings = Settings(modality=self._widget.form.editors["modality"].value())
        self._job = Job(find_steps(place, settings), self._show_found, self._looked)
        self._widget.watch(self._job)
        self._job.start()

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a patient's folder or a result folder")
        if folder:
            self.open(Path(folder))

    def dragEnterEvent(self, event: Any) -> None:
        """One local folder or file is welcome."""
        if len(event.mimeData().urls()) == 1:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Open what was dropped."""
        self.open(Path(event.mimeData().urls()[0].toLocalFile()))

    def _show(self) -> None:
        """With the corrections of the table: clicks on the images are for a run with the same days."""
        place = Path(self.folder.text().strip()).expanduser()
        try:
            files = self.corrected(place, self._widget.form.settings())
        except TumorError as error:
            return self._widget.say(str(error))
        self._widget.start(open_steps(place, files))

    # ---- the table ----

    def _looked(self, failure: Failure | None) -> None:
        self._job = None
        if failure is not None:
            self.problems.setText(failure.sentence)
            self.problems.show()

    def _show_found(self, found: Found) -> None:
        self.found = found
        files = found.files
        self.table.setColumnCount(len(HEADER))
        self.table.setHorizontalHeaderLabels(list(HEADER))
        self.table.setRowCount(len(found.rows))
        for number, image in enumerate(found.rows):
            self._fill(number, image, found.rows[number - 1].visit if number else None)
        self.table.resizeColumnsToContents()
        self.table.horizontalHeader().setSectionResizeMode(FILE, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.reference.clear()
        self.reference.addItems([str(n + 1) for n in range(len(files.visits))])
        self.reference.setCurrentIndex((self._widget.form.editors["reference"].value() or 1) - 1)
        said = [*files.problems, *files.warnings, *(f"Left out: {name}, {why}" for name, why in files.left_out)]
        self.problems.setText("\n".join(said))
        self.problems.setVisible(bool(said))
        for part in (self.table, self._reference_row, self.keep_button):
            part.show()
        dated = "dated" if files.dated else "no dates"
        count = f"{len(files.visits)} visit{'s' if len(files.visits) > 1 else ''}"
        masks = MASKS_THERE if any(visit.mask is not None for visit in files.visits) else ""
        self._widget.say(f"Found {files.patient}: {count}, {dated}. {masks}Check the table, then Run.")

    def _fill(self, number: int, image: ImageRow, visit_before: int | None) -> None:
        first = image.visit != visit_before
        texts = {
            VISIT: str(image.visit + 1) if first else "",
            DAY: (NO_DAY if image.day is None else str(image.day)) if first else "",
            SIZE: image.size,
            FILE: image.name,
        }
        for column, text in texts.items():
            item = QTableWidgetItem(text)
            if column != DAY or not first:
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            item.setToolTip(image.note or text)
            self.table.setItem(number, column, item)
        kind = named(QComboBox(), f"Kind of image {image.name}", "What kind of image this is")
        kind.addItems(MODALITIES)
        kind.setCurrentText(image.modality)
        self.table.setCellWidget(number, IMAGE, kind)

    def _clear(self, text: str = "") -> None:
        if self._job is not None:
            self._job.cancel()
        self.found = self._job = None
        self.table.setRowCount(0)
        self.show_button.setEnabled(bool(self.folder.text().strip()))
        for part in (self.table, self._reference_row, self.problems, self.keep_button):
            part.hide()

    def _set_reference(self, index: int) -> None:
        self._widget.form.editors["reference"].set_value(index + 1)

    # ---- corrections ----

    def rows(self) -> tuple[ImageRow, ...]:
        """The rows as they stand in the table. InputError for a day that is no whole number."""
        if self.found is None:
            return ()
        days: dict[int, int | None] = {}
        answer = []
        for number, image in enumerate(self.found.rows):
            if image.visit not in days:
                days[image.visit] = self._day(number, image)
            kind = self.table.cellWidget(number, IMAGE).currentText()
            answer.append(replace(image, modality=kind, day=days[image.visit]))
        return tuple(answer)

    def _day(self, number: int, image: ImageRow) -> int | None:
        text = self.table.item(number, DAY).text().strip()
        try:
            return int(text) if text else None
        except ValueError:
            raise InputError(f"The day of visit {image.visit + 1} is a whole number, got {text!r}.") from None

    def corrected(self, place: Path, settings: Settings) -> PatientFiles | None:
        """The patient as corrected in the table; None when nothing was, so that it is found as it lies.

        Raises InputError where the corrections make no series.
        """
        rows = self.rows()
        if self.found is None or rows == self.found.rows:
            return None
        from napari_convlstm_tumor.io.discover import find_patient

        self._scratch = tempfile.TemporaryDirectory()
        path = Path(self._scratch.name) / MANIFEST_FILE
        path.write_text(manifest_text(rows, self.found.files.patient), encoding="utf-8")
        return find_patient(path, settings)

    def _ask_manifest(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save as manifest", MANIFEST_FILE, "CSV (*.csv)")
        if path:
            self.save_manifest(Path(path))

    def save_manifest(self, path: Path) -> None:
        """Write the table as a manifest that ``convlstm-tumor run`` and ``batch`` take."""
        if self.found is None:
            return
        try:
            path.write_text(manifest_text(self.rows(), self.found.files.patient), encoding="utf-8")
        except (InputError, OSError) as error:
            self._widget.say(str(error) if isinstance(error, InputError) else f"{path.name} cannot be written.")
            return
        self._widget.say(f"Wrote {path.name}.")
