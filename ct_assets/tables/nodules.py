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


class NoduleConsensus(dy.Schema):
    """A row a nodule whose consensus mask has voxels: where they lie."""

    series_uid = dy.String(primary_key=True)
    nodule = dy.Int64(primary_key=True, min=0)
    """Number in its scan, as in the table of nodules."""
    x_mm = dy.List(dy.Float64(), nullable=False)
    """Centres of the voxels, LPS; aligned with y and z."""
    y_mm = dy.List(dy.Float64(), nullable=False)
    z_mm = dy.List(dy.Float64(), nullable=False)


class NoduleVolumes(dy.Schema):
    """A row a CT series that nodules may be learned from, also where it is left out."""

    series_uid = dy.String(primary_key=True)
    patient_id = dy.String()
    """As the images have it; the series UID where they have none."""
    is_ready = dy.Bool()
    """False where it is left out."""
    reasons = dy.List(dy.String(), nullable=False)
    """Why it is left out."""
    warnings = dy.List(dy.String(), nullable=False)
    lungs_key = dy.String(nullable=True)
    """Entry of the store: 1 in the lungs, on the image's grid; all 0 with the warning `lungs_not_found`."""
    image_key = dy.String(nullable=True)
    """Entry of the store: HU on the network's grid."""
    mask_key = dy.String(nullable=True)
    """Entry of the store: 1 in nodules of the reference, on the same grid."""


class NoduleTruths(dy.Schema):
    """A row a finding of the reference or an excluded one, as an evaluation counts them."""

    series_uid = dy.String(primary_key=True)
    number = dy.Int64(primary_key=True, min=0)
    x_mm = dy.Float64()
    """Centre, LPS."""
    y_mm = dy.Float64()
    z_mm = dy.Float64()
    diameter_mm = dy.Float64()
    """Of the ball with its volume; negative where it is not known."""
    axis_1_mm = dy.Float64(nullable=True)
    """Principal diameters of the consensus mask, the longest first; null without one."""
    axis_2_mm = dy.Float64(nullable=True)
    axis_3_mm = dy.Float64(nullable=True)
    kind = dy.String(nullable=True)
    """solid, part_solid, ground_glass or calcified, by the mean ratings; null where they were not given."""
    triage = dy.Int64(nullable=True, min=1, max=10)
    """Score; null without a rating of malignancy."""
    is_excluded = dy.Bool()
    """Marks on it count neither way: fewer than 3 readers, below 3 mm, or no nodule."""
    reasons = dy.List(dy.String(), nullable=False)
    """Why it is not used at all; empty where it is."""
