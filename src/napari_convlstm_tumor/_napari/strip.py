"""The visit strip under the canvas: every visit at its true day, with a picture, its volume and its registration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QToolTip, QWidget

from napari_convlstm_tumor._napari import looks
from napari_convlstm_tumor._napari.parts import CAUTION_COLOUR
from napari_convlstm_tumor._napari.preferences import show_dates

if TYPE_CHECKING:
    from napari_convlstm_tumor.analysis import Analysis

PICTURE = 84  # pixels, longest side of a picture
BAR_WIDTH, GAP, MARGIN = 9, 14, 34
AXIS_HEIGHT, TEXT_HEIGHT = 30, 16
SMALLEST_SPACE = PICTURE + BAR_WIDTH + GAP
GROUND, TEXT, FAINT, BAR, CHOSEN = "#262930", "#e8ebee", "#7c8591", "#56b4e9", "#ffffff"


@dataclass(frozen=True, eq=False)
class VisitMark:
    """What the strip shows of one visit. picture: (rows, columns, 3) uint8; quality: None where it was not judged."""

    day: int
    dated: bool
    picture: npt.NDArray[np.uint8]
    volume_ml: float | None
    quality: float | None
    good: bool
    reference: bool
    share: float  # of the largest volume
    date: str = ""  # only where the person wants dates on the screen

    @property
    def title(self) -> str:
        """'day 41', or 'visit 2' without dates; the date instead where it is wanted."""
        if self.date:
            return self.date
        return f"day {self.day}" if self.dated else f"visit {self.day + 1}"

    @property
    def registration(self) -> str:
        """The registration in a word or a number."""
        if self.reference:
            return "reference"
        return "not judged" if self.quality is None else f"aligned {self.quality:.2f}"


class VisitStrip(QWidget):
    """Pictures in the order of time above an axis of true days. on_pick: called with the 0-based visit."""

    def __init__(self, on_pick: Callable[[int], Any]) -> None:
        super().__init__()
        self._on_pick = on_pick
        self.marks: list[VisitMark] = []
        self._images: list[QImage] = []
        self.visit = 0
        self.setAccessibleName("Visits over time")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumHeight(PICTURE + AXIS_HEIGHT + 2 * TEXT_HEIGHT + 8)
        self.setMaximumHeight(self.minimumHeight() + 24)

    def sizeHint(self) -> QSize:
        """Wide as the canvas, as high as a picture with its words."""
        return QSize(600, self.minimumHeight())

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Show the visits of a result; None empties the strip."""
        self.marks = [] if analysis is None else marks_of(analysis, show_dates())
        self._images = [_image(mark.picture) for mark in self.marks]
        said = "; ".join(f"{m.title}, {_ml(m.volume_ml)}, {m.registration}" for m in self.marks)
        self.setAccessibleDescription(said)
        self.update()

    def mark(self, visit: int) -> None:
        """Show which 0-based visit is on the canvas."""
        self.visit = visit
        self.update()

    # ---- where things are ----

    def day_x(self, n: int) -> float:
        """Pixels of a visit's day on the axis."""
        first, last = self.marks[0].day, self.marks[-1].day
        share = (self.marks[n].day - first) / (last - first) if last > first else 0.5
        half = SMALLEST_SPACE / 2
        return MARGIN + half + share * max(self.width() - 2 * (MARGIN + half), 1)

    def picture_x(self) -> list[float]:
        """Pixels of the middle of every picture: at its day, moved aside where pictures would overlap."""
        wished = [self.day_x(n) for n in range(len(self.marks))]
        space = min(SMALLEST_SPACE, (self.width() - 2 * MARGIN) / max(len(self.marks), 1))
        return spread(wished, space, MARGIN + space / 2, self.width() - MARGIN - space / 2)

    def _visit_at(self, x: float) -> int | None:
        if not self.marks:
            return None
        return min(enumerate(self.picture_x()), key=lambda place: abs(place[1] - x))[0]

    # ---- events ----

    def mousePressEvent(self, event: Any) -> None:
        """A click goes to the visit of the nearest picture."""
        visit = self._visit_at(event.position().x())
        if visit is not None:
            self._on_pick(visit)

    def keyPressEvent(self, event: Any) -> None:
        """Arrow keys and brackets step through the visits."""
        step = {
            Qt.Key.Key_Left: -1, Qt.Key.Key_BracketLeft: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_BracketRight: 1,
        }.get(event.key(), 0)  # fmt: skip
        if step and self.marks:
            self._on_pick(min(max(self.visit + step, 0), len(self.marks) - 1))
            return
        super().keyPressEvent(event)

    def event(self, event: Any) -> bool:
        """Tell of the visit under the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            visit = self._visit_at(event.pos().x())
            if visit is not None:
                mark = self.marks[visit]
                words = f"Visit {visit + 1}, {mark.title}: {_ml(mark.volume_ml)}, {mark.registration}"
                QToolTip.showText(event.globalPos(), words, self)
                return True
        return bool(super().event(event))

    # ---- drawing ----

    def paintEvent(self, event: Any) -> None:
        """Axis, pictures, bars and words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor(GROUND))
        if not self.marks:
            painter.setPen(QColor(FAINT))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "The visits of a result stand here.")
        else:
            self._draw_axis(painter)
            for n, x in enumerate(self.picture_x()):
                self._draw_visit(painter, n, x)
        painter.end()

    def _draw_axis(self, painter: QPainter) -> None:
        y = self.height() - TEXT_HEIGHT - 6
        painter.setPen(QPen(QColor(FAINT), 1))
        painter.drawLine(QPointF(MARGIN, y), QPointF(self.width() - MARGIN, y))
        for n, x in enumerate(self.picture_x()):
            chosen = n == self.visit
            painter.setPen(QPen(QColor(CHOSEN if chosen else FAINT), 1))
            painter.drawLine(QPointF(x, y - AXIS_HEIGHT + 16), QPointF(self.day_x(n), y))
            painter.setBrush(QColor(CHOSEN if chosen else FAINT))
            painter.drawEllipse(QPointF(self.day_x(n), y), 3.5, 3.5)

    def _draw_visit(self, painter: QPainter, n: int, x: float) -> None:
        mark, image, chosen = self.marks[n], self._images[n], n == self.visit
        width, height = image.width(), image.height()
        left, top = x - (width + BAR_WIDTH + 3) / 2, 4.0 + (PICTURE - height) / 2
        picture = QRectF(left, top, width, height)
        painter.drawImage(picture, image)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(CHOSEN if chosen else FAINT), 2.0 if chosen else 0.5))
        painter.drawRect(picture)
        self._draw_bar(painter, mark, left + width + 3)
        self._draw_words(painter, mark, x, chosen)

    def _draw_bar(self, painter: QPainter, mark: VisitMark, left: float) -> None:
        painter.setPen(QPen(QColor(FAINT), 0.5))
        painter.drawRect(QRectF(left, 4, BAR_WIDTH, PICTURE))
        high = mark.share * PICTURE
        painter.fillRect(QRectF(left, 4 + PICTURE - high, BAR_WIDTH, high), QColor(BAR))

    def _draw_words(self, painter: QPainter, mark: VisitMark, x: float, chosen: bool) -> None:
        font = painter.font()
        font.setPixelSize(11)
        font.setBold(chosen)
        painter.setFont(font)
        painter.setPen(QColor(CHOSEN if chosen else TEXT))
        place = QRectF(x - SMALLEST_SPACE / 2 - 6, PICTURE + 6, SMALLEST_SPACE + 12, TEXT_HEIGHT)
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, f"{mark.title}: {_ml(mark.volume_ml)}")
        font.setBold(False)
        painter.setFont(font)
        doubtful = not mark.good and not mark.reference
        painter.setPen(QColor(CAUTION_COLOUR if doubtful else FAINT))
        place.moveTop(self.height() - TEXT_HEIGHT - 2)
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, ("! " if doubtful else "") + mark.registration)


# ---- what is shown ----


def marks_of(analysis: Analysis, with_dates: bool = False) -> list[VisitMark]:
    """The marks of every visit, all pictures of one slice. with_dates: where the files they came from still tell."""
    from napari_convlstm_tumor.report.slices import choose_plane

    plane = choose_plane(analysis.masks, analysis.grid)
    modality, images = next(iter(analysis.images.items()))
    volumes = [row["volume_mm3"] for row in analysis.report.visits]
    largest = max((v or 0.0 for v in volumes), default=0.0) or 1.0
    marks = []
    for t, registration in enumerate(analysis.registrations):
        outline = plane.cut(analysis.masks[t]) != 0
        marks.append(
            VisitMark(
                day=analysis.days[t],
                dated=analysis.dated,
                picture=picture(plane.cut(images[t]), outline, plane.spacing_mm, modality == "ct"),
                volume_ml=None if volumes[t] is None else volumes[t] / 1000,
                quality=registration.quality if math.isfinite(registration.quality) else None,
                good=registration.good,
                reference=t == analysis.settings.reference - 1,
                share=(volumes[t] or 0.0) / largest,
                date=_date(analysis, t) if with_dates else "",
            )
        )
    return marks


def _date(analysis: Analysis, t: int) -> str:
    date = None if analysis.source is None else analysis.source.visits[t].date
    return "" if date is None else date.isoformat()


def picture(
    image: npt.NDArray[Any], mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float], is_ct: bool
) -> npt.NDArray[np.uint8]:
    """A slice (rows, columns) as a small picture (rows, columns, 3) of square pixels with the tumor's edge on it."""
    low, high = looks.CT_WINDOW if is_ct else looks.MR_RANGE
    values = image if is_ct else looks.scaled(image)
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    height, width = (n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    shrink = PICTURE / max(height, width)
    rows, columns = (
        np.minimum((np.arange(round(size * shrink)) + 0.5) / shrink / mm, n - 1).astype(int)
        for size, mm, n in zip((height, width), spacing_mm, image.shape, strict=True)
    )
    small, inside = grey[np.ix_(rows, columns)], mask[np.ix_(rows, columns)]
    picture = np.repeat(small[..., None], 3, axis=2)
    picture[_edge(inside)] = QColor(looks.lesion_colour(1)).getRgb()[:3]
    return picture


def _edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: npt.NDArray[np.bool_] = mask & ~inner
    return edge


def spread(wished: Sequence[float], space: float, low: float, high: float) -> list[float]:
    """Places as near as possible to those wished, in order, ``space`` apart, between low and high (if they fit)."""
    places: list[float] = []
    for wish in wished:
        places.append(max(wish, places[-1] + space if places else low))
    limit = high
    for n in reversed(range(len(places))):
        places[n] = min(places[n], limit)
        limit = places[n] - space
    return places


def _ml(volume: float | None) -> str:
    return "volume not known" if volume is None else f"{volume:.{2 if volume >= 0.1 or not volume else 3}f} mL"


def _image(picture: npt.NDArray[np.uint8]) -> QImage:
    data = np.ascontiguousarray(picture)
    height, width, _ = data.shape
    return QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
