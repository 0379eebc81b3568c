"""Voxels: volumes and their grids, conversion, masks, resampling, windows, stores."""
