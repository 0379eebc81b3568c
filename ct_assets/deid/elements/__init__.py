"""Elements of a DICOM object: rules of the profile, values, text, identifiers."""
