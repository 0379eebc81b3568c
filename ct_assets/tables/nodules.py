"""Schemas of nodule annotations; a line a column, units in names."""

import dataframely as dy


class NoduleScans(dy.Schema):
    """A row a CT series with a read message, also where nobody marked anything."""

    series_uid = dy.String(primary_key=True)
    sessions = dy.Int64(min=0)
    """Reading sessions: one a reader."""


class NoduleMarks(dy.Schema):
    """A row a mark of a reader."""

    series_uid = dy.String()
    session = dy.Int64(min=0)
    """Number of the reading session in its scan, from 0."""
    nodule_id = dy.String()
    """As the message has it; means something within one session only."""
    kind = dy.String(check=lambda column: column.is_in(["nodule_ge3", "nodule_lt3", "non_nodule"]))
    x_mm = dy.Float64(nullable=True)
    """Centre of the mask, or the marked point; LPS. Null where its image is not there."""
    y_mm = dy.Float64(nullable=True)
    z_mm = dy.Float64(nullable=True)
    voxels = dy.Int64(nullable=True)
    """Within the outlines, holes taken out; null without an outline."""
    nodule = dy.Int64(nullable=True)
    """Row of the scan's nodules that it belongs to; null for other kinds."""
    warnings = dy.List(dy.String(), nullable=False)
    subtlety = dy.Int64(nullable=True)
    internal_structure = dy.Int64(nullable=True)
    calcification = dy.Int64(nullable=True)
    sphericity = dy.Int64(nullable=True)
    margin = dy.Int64(nullable=True)
    lobulation = dy.Int64(nullable=True)
    spiculation = dy.Int64(nullable=True)
    texture = dy.Int64(nullable=True)
    malignancy = dy.Int64(nullable=True)


class NoduleReference(dy.Schema):
    """A row a nodule of at least 3 mm, as one or more readers outlined it."""

    series_uid = dy.String(primary_key=True)
    nodule = dy.Int64(primary_key=True, min=0)
    """Number in its scan, by z, y and x."""
    readers = dy.Int64(min=1)
    """Sessions that marked it."""
    marks = dy.Int64(min=1)
    in_reference = dy.Bool()
    """At least 3 readers."""
    x_mm = dy.Float64()
    """Centre of the consensus mask, LPS."""
    y_mm = dy.Float64()
    z_mm = dy.Float64()
    diameter_mm = dy.Float64(nullable=True)
    """Of the ball with the volume of the consensus mask; null where the distance of slices is not known."""
    consensus_voxels = dy.Int64(min=0)
    """Voxels that at least half of its readers outlined."""
    warnings = dy.List(dy.String(), nullable=False)
    subtlety = dy.Float64(nullable=True)
    """Mean of the ratings that were given, as below."""
    internal_structure = dy.Float64(nullable=True)
    calcification = dy.Float64(nullable=True)
    sphericity = dy.Float64(nullable=True)
    margin = dy.Float64(nullable=True)
    lobulation = dy.Float64(nullable=True)
    spiculation = dy.Float64(nullable=True)
    texture = dy.Float64(nullable=True)
    malignancy = dy.Float64(nullable=True)
