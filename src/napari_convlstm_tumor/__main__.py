"""``python -m napari_convlstm_tumor`` is ``convlstm-tumor``."""

from napari_convlstm_tumor.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
