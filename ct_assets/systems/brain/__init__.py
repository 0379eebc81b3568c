"""Brain CT classification: from single slices of head CT to a threshold, a model and the one test.

Belongs here: what only this system does. Reading DICOM, windows, the split ledger, the training loop, metrics,
calibration, tracking and the register are the platform's shared rooms.
"""
