"""Longitudinal nodules: exams of a patient over time, registration, pairs, and models of growth."""
