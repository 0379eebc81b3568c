"""Volumes for learning: fingerprint, plan, fold volumes, patches, augmentation."""
