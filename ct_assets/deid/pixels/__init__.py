"""Pixels: burned-in text, frames, pixel streams."""
