"""Everything that touches files: the only room that knows DICOM tags, BIDS names, LPS/RAS, rescale slopes."""
