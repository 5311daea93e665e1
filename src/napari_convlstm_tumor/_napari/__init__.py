"""The viewer door: reader, sample data and the "Tumor growth" widget. The only room that knows napari and Qt."""
