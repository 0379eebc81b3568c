"""Schemas of longitudinal nodules; a line a column, units in names."""

import dataframely as dy


class SingleTimepoints(dy.Schema):
    """A row a patient and screening timepoint: the exam that is used. Further columns stay as they were supplied."""

    pid = dy.String(primary_key=True)
    exam_id = dy.String()
    screen_timepoint = dy.Float64(primary_key=True)
    series = dy.String()
    slice_thickness = dy.Float64()
    """Millimetres."""
    slice_thickness_class = dy.Float64()
    """Least of 1, 1.5, 2 and 2.5 mm that holds the thickness."""
    num_slices = dy.Float64()
    days_at_event = dy.Float64(nullable=True)
    """Days from the exam to the event: falls from exam to exam."""
    cancer = dy.Float64(nullable=True)
    split = dy.String(nullable=True)


class ExcludedExams(dy.Schema):
    """A row of the exam table that is not used."""

    pid = dy.String(nullable=True)
    exam_id = dy.String(nullable=True)
    series = dy.String(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)
    """Codes of `ct_assets.reasons`."""


class Timelines(dy.Schema):
    """A row a patient; the lists are aligned and sorted by timepoint."""

    pid = dy.String(primary_key=True)
    exam_ids = dy.List(dy.String(), nullable=False)
    screen_timepoints = dy.List(dy.Int64(), nullable=False)
    days_at_events = dy.List(dy.Float64(nullable=True), nullable=False)
    n_exams = dy.Int64()
    cancer_any = dy.Bool()
    split = dy.String(nullable=True)


class PairedExams(dy.Schema):
    """A pair of consecutive kept exams; columns of either exam follow with `_a` and `_b`."""

    pid = dy.String(primary_key=True)
    exam_id_a = dy.String(primary_key=True)
    exam_id_b = dy.String()
    delta_days = dy.Float64(min_exclusive=0)
    timepoints_skipped = dy.Int64()
    split = dy.String(nullable=True)


class RefusedExamPairs(dy.Schema):
    """A pair of consecutive kept exams that is not used."""

    pid = dy.String(primary_key=True)
    exam_id_a = dy.String(primary_key=True)
    exam_id_b = dy.String()
    delta_days = dy.Float64(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)


class Registrations(dy.Schema):
    """A row a kept exam: its transform to the patient's first kept exam. Matrices are 4 x 4, rows first, LPS mm."""

    pid = dy.String(primary_key=True)
    exam_id = dy.String(primary_key=True)
    fixed_exam_id = dy.String()
    """The patient's first kept exam."""
    status = dy.String(check=lambda column: column.is_in(["reference", "ok", "poor", "refused", "open"]))
    """`reference` of the first exam, `open` of one that was not registered yet."""
    reasons = dy.List(dy.String(), nullable=False)
    source = dy.String(nullable=True, check=lambda column: column.is_in(["computed", "given"]))
    reverse_transform = dy.Bool(nullable=True)
    """True where a given transform was used by its inverse."""
    matrix_fixed_to_moving = dy.List(dy.Float64(), nullable=True)
    """Point of the first exam to point of this one."""
    matrix_moving_to_fixed = dy.List(dy.Float64(), nullable=True)
    rotation_deg = dy.Float64(nullable=True)
    translation_mm = dy.List(dy.Float64(), nullable=True)
    similarity_before = dy.Float64(nullable=True)
    similarity_after = dy.Float64(nullable=True)
    lung_overlap_before = dy.Float64(nullable=True)
    lung_overlap_after = dy.Float64(nullable=True)
    overlap_share = dy.Float64(nullable=True)


class PairedNodules(dy.Schema):
    """A nodule on two consecutive tracked exams."""

    pid = dy.String(primary_key=True)
    nodule_group = dy.String(primary_key=True)
    exam_a = dy.String()
    exam_b = dy.String()
    exam_idx_a = dy.Int64(primary_key=True)
    exam_idx_b = dy.Int64()
    volume_a = dy.Float64(min_exclusive=0)
    """Cubic millimetres."""
    volume_b = dy.Float64(min_exclusive=0)
    delta_days = dy.Float64(nullable=True, min_exclusive=0)
    """Null where an exam has no date."""


class Growth(dy.Schema):
    """Growth of a pair."""

    pid = dy.String(primary_key=True)
    nodule_group = dy.String(primary_key=True)
    exam_a = dy.String()
    exam_b = dy.String()
    exam_idx_a = dy.Int64(primary_key=True)
    exam_idx_b = dy.Int64()
    relative_growth = dy.Float64()
    """Change as a share of the first volume."""
    growth_class = dy.String(check=lambda column: column.is_in(["growing", "stable", "shrinking"]))
    """Growing and shrinking from 25 % on."""
    vdt_days = dy.Float64(nullable=True)
    """Volume doubling time; negative (halving) where the nodule shrank, null without an interval or a change."""
    vdt_class = dy.String(nullable=True, check=lambda column: column.is_in(["fast", "intermediate", "slow"]))
    """Of growing nodules: fast below 400 days, slow above 600."""


class UnpairedNodules(dy.Schema):
    """A row of the tracking table that is in no pair."""

    pid = dy.String(nullable=True)
    nodule_group = dy.String(nullable=True)
    exam_idx = dy.Int64(nullable=True)
    exam = dy.String(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)


class NodulePatches(dy.Schema):
    """A pair of a nodule with its crops in the store; boxes are inclusive voxels (i, j, k low, then high) of a crop."""

    pid = dy.String(primary_key=True)
    nodule_group = dy.String(primary_key=True)
    exam_a = dy.String()
    exam_b = dy.String()
    exam_idx_a = dy.Int64(primary_key=True)
    exam_idx_b = dy.Int64()
    delta_days = dy.Float64(min_exclusive=0)
    timepoints_skipped = dy.Int64()
    split = dy.String(check=lambda column: column.is_in(["train", "val", "test"]))
    nodule_type = dy.String(nullable=True)
    volume_a = dy.Float64(min_exclusive=0)
    """Cubic millimetres, as tracked."""
    volume_b = dy.Float64(min_exclusive=0)
    volume_before = dy.Float64(nullable=True)
    """On the exam before exam a, where there is one."""
    days_before = dy.Float64(nullable=True)
    box_a = dy.List(dy.Int64(), nullable=False)
    box_b = dy.List(dy.Int64(), nullable=False)
    is_clipped_a = dy.Bool()
    """The box reaches beyond the crop."""
    is_clipped_b = dy.Bool()
    key_a = dy.String()
    """Key of the earlier crop in the store."""
    key_b = dy.String()


class UnusablePairs(dy.Schema):
    """A pair of a nodule that no model sees."""

    pid = dy.String(nullable=True)
    nodule_group = dy.String(nullable=True)
    exam_a = dy.String(nullable=True)
    exam_b = dy.String(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)


class NodulePredictions(dy.Schema):
    """A pair of a nodule with the model's and each baseline's later volume. Volumes in mm3, images in HU or dB."""

    pid = dy.String(primary_key=True)
    nodule_group = dy.String(primary_key=True)
    exam_a = dy.String(primary_key=True)
    exam_b = dy.String()
    delta_days = dy.Float64(min_exclusive=0)
    timepoints_skipped = dy.Int64()
    nodule_type = dy.String(nullable=True)
    volume_a = dy.Float64()
    volume_b = dy.Float64()
    """Measured in the real later crop with the contrast of the earlier one."""
    tracked_volume_b = dy.Float64()
    predicted = dy.Float64()
    """0 where the predicted crop shows no nodule."""
    is_found = dy.Bool()
    copy_input = dy.Float64()
    mean_rate = dy.Float64()
    rate_by_type = dy.Float64()
    linear = dy.Float64(nullable=True)
    exponential = dy.Float64(nullable=True)
    always_grow = dy.Float64()
    predicted_shuffled_interval = dy.Float64()
    """Predicted with the interval of another pair."""
    predicted_shortest_interval = dy.Float64()
    """Predicted with the shortest interval of the training pairs."""
    growth_class = dy.String()
    predicted_growth_class = dy.String(nullable=True)
    vdt_days = dy.Float64(nullable=True)
    predicted_vdt_days = dy.Float64(nullable=True)
    vdt_class = dy.String(nullable=True)
    predicted_vdt_class = dy.String(nullable=True)
    dice = dy.Float64(nullable=True)
    """Of the nodule in the predicted and in the real later crop."""
    psnr_region = dy.Float64(nullable=True)
    psnr_region_copy = dy.Float64(nullable=True)
    psnr_whole = dy.Float64(nullable=True)
    ssim_region = dy.Float64(nullable=True)
    outside_change_hu = dy.Float64(nullable=True)
    """Mean absolute change of the prediction against the earlier crop, outside the nodule's boxes."""
    outside_change_real_hu = dy.Float64(nullable=True)
    reasons = dy.List(dy.String(), nullable=False)
