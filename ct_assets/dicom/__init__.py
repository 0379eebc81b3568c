"""Reading DICOM: header scan, series grouping, geometry from headers."""
