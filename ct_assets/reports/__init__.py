"""Plots and pages, written as files."""
