"""Schemas of the head CT and MR token cache; a line a column, units in names."""

import dataframely as dy


class NeuroStudies(dy.Schema):
    """A row a study, usable or not."""

    study = dy.String(primary_key=True)
    mode = dy.String(nullable=True, check=lambda column: column.is_in(["ct", "mri"]))
    """Null where the mode mapping does not name one."""
    is_usable = dy.Bool()
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of `ct_assets.reasons`; empty for a usable study."""
    images = dy.Int64()
    """Usable images."""
    refused_images = dy.Int64()
    """Files that are no image of the study."""


class NeuroImages(dy.Schema):
    """A row an image of a usable study, cached or not."""

    study = dy.String(primary_key=True)
    image = dy.String(primary_key=True)
    mode = dy.String(check=lambda column: column.is_in(["ct", "mri"]))
    source = dy.String()
    """The file or folder, relative to the data set's folder."""
    status = dy.String(check=lambda column: column.is_in(["cached", "refused", "missing"]))
    """`missing`: not made yet, or made from another source or other parameters."""
    reasons = dy.List(dy.String(), nullable=False)
    warnings = dy.List(dy.String(), nullable=False)
    key = dy.String(nullable=True)
    depth = dy.Int64(nullable=True)
    """Voxels along the slice axis after resampling."""
    height = dy.Int64(nullable=True)
    width = dy.Int64(nullable=True)
    view = dy.Int64(nullable=True)
    """Array axis along which the slices lay."""
    tokens = dy.Int64(nullable=True)
    foreground_tokens = dy.Int64(nullable=True)
    """Tokens without any background voxel."""


class NeuroStreams(dy.Schema):
    """A row a stream: what its foreground voxels look like over the whole data set."""

    stream = dy.String(primary_key=True, check=lambda column: column.is_in(["mri", "brain", "blood", "bone"]))
    images = dy.Int64()
    foreground_voxels = dy.Int64()
    mean = dy.Float64(nullable=True)
    """Of values in [0, 1]; null where there is no foreground."""
    std = dy.Float64(nullable=True)
    saturated_share = dy.Float64(nullable=True)
    """Share of foreground voxels at 0 or 1: outside the window."""
