"""DICOM: files of slices, and files of many frames, as one stack in space and time."""
