"""Evaluation: metrics, calibration, intervals, reports, test-set access log."""
