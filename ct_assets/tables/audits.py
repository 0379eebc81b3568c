"""Schemas of the header index and the CT preprocessing audit; a line a column, units in names."""

import dataframely as dy


class MetadataAudit(dy.Schema):
    """A row an instance: what its header says, typed; null where it is absent or cannot be read."""

    path = dy.String(primary_key=True)
    file_size_bytes = dy.Int64()
    content_sha256 = dy.String(nullable=True)
    """Data set's bytes; only where a SOPInstanceUID occurs again."""
    pixel_sha256 = dy.String(nullable=True)
    """Pixel data's bytes; only where uid or position occurs again."""
    is_dicom = dy.Bool()
    problems = dy.List(dy.String())
    """Reason codes of what could not be read."""
    oddities = dy.List(dy.String())
    """`column:oddity` of raw values that had to be read tolerantly."""

    # Identity and linkage
    patient_id = dy.String(nullable=True)
    issuer_of_patient_id = dy.String(nullable=True)
    study_instance_uid = dy.String(nullable=True)
    series_instance_uid = dy.String(nullable=True)
    sop_instance_uid = dy.String(nullable=True)
    sop_class_uid = dy.String(nullable=True)
    frame_of_reference_uid = dy.String(nullable=True)
    modality = dy.String(nullable=True)
    transfer_syntax_uid = dy.String(nullable=True)

    # Choice of the series
    image_type = dy.List(dy.String(), nullable=True)
    series_number = dy.Int64(nullable=True)
    acquisition_number = dy.Int64(nullable=True)
    instance_number = dy.Int64(nullable=True)
    study_date = dy.Date(nullable=True)
    series_date = dy.Date(nullable=True)
    acquisition_date = dy.Date(nullable=True)
    content_date = dy.Date(nullable=True)
    series_time_s = dy.Float64(nullable=True)
    """Seconds since midnight."""
    acquisition_time_s = dy.Float64(nullable=True)
    content_time_s = dy.Float64(nullable=True)
    study_description = dy.String(nullable=True)
    series_description = dy.String(nullable=True)
    body_part_examined = dy.String(nullable=True)
    derivation_description = dy.String(nullable=True)
    lossy_image_compression = dy.String(nullable=True)
    temporal_position_identifier = dy.Int64(nullable=True)
    temporal_position_index = dy.Int64(nullable=True)
    nominal_percentage_of_cardiac_phase = dy.Float64(nullable=True)
    trigger_time_ms = dy.Float64(nullable=True)

    # Geometry; LPS millimetres
    image_position_patient_mm = dy.List(dy.Float64(), nullable=True)
    image_orientation_patient = dy.List(dy.Float64(), nullable=True)
    pixel_spacing_mm = dy.List(dy.Float64(), nullable=True)
    """Between rows, between columns."""
    rows = dy.Int64(nullable=True)
    matrix_columns = dy.Int64(nullable=True, alias="columns")
    """Pixels in a row; `columns` is taken in the class."""
    number_of_frames = dy.Int64(nullable=True)
    concatenation_uid = dy.String(nullable=True)
    """What the parts of one multi-frame image share."""
    in_concatenation_number = dy.Int64(nullable=True)
    in_concatenation_total_number = dy.Int64(nullable=True)
    concatenation_frame_offset = dy.Int64(nullable=True)
    """Frames in the parts before this one."""
    slice_thickness_mm = dy.Float64(nullable=True)
    spacing_between_slices_mm = dy.Float64(nullable=True)
    slice_location_mm = dy.Float64(nullable=True)
    gantry_detector_tilt_deg = dy.Float64(nullable=True)
    patient_position = dy.String(nullable=True)
    reconstruction_diameter_mm = dy.Float64(nullable=True)
    data_collection_diameter_mm = dy.Float64(nullable=True)
    table_height_mm = dy.Float64(nullable=True)

    # Intensity
    samples_per_pixel = dy.Int64(nullable=True)
    photometric_interpretation = dy.String(nullable=True)
    bits_allocated = dy.Int64(nullable=True)
    bits_stored = dy.Int64(nullable=True)
    high_bit = dy.Int64(nullable=True)
    pixel_representation = dy.Int64(nullable=True)
    rescale_slope = dy.Float64(nullable=True)
    rescale_intercept = dy.Float64(nullable=True)
    rescale_type = dy.String(nullable=True)
    multienergy_ct_acquisition = dy.String(nullable=True)
    pixel_padding_value = dy.Int64(nullable=True)
    pixel_padding_range_limit = dy.Int64(nullable=True)
    has_pixel_data = dy.Bool(nullable=True)
    pixel_data_bytes = dy.Int64(nullable=True)
    """Null where encapsulated or absent."""

    # Appearance
    kvp_kv = dy.Float64(nullable=True)
    convolution_kernel = dy.String(nullable=True)
    filter_type = dy.String(nullable=True)
    contrast_bolus_agent = dy.String(nullable=True)
    exposure_mas = dy.Float64(nullable=True)
    exposure_time_ms = dy.Float64(nullable=True)
    xray_tube_current_ma = dy.Float64(nullable=True)
    spiral_pitch_factor = dy.Float64(nullable=True)
    ctdi_vol_mgy = dy.Float64(nullable=True)
    single_collimation_width_mm = dy.Float64(nullable=True)
    total_collimation_width_mm = dy.Float64(nullable=True)
    scan_options = dy.String(nullable=True)

    # Confounders, as far as the de-identification profile keeps them
    manufacturer = dy.String(nullable=True)
    manufacturer_model_name = dy.String(nullable=True)
    software_versions = dy.String(nullable=True)
    institution_name = dy.String(nullable=True)
    patient_age_years = dy.Float64(nullable=True)
    patient_sex = dy.String(nullable=True)
    patient_size_m = dy.Float64(nullable=True)
    patient_weight_kg = dy.Float64(nullable=True)

    # Enhanced multi-frame images and SEG: values of each frame, flat; one value where all frames agree
    frame_positions_mm = dy.List(dy.Float64(), nullable=True)
    """3 a frame."""
    frame_orientations = dy.List(dy.Float64(), nullable=True)
    """6 a frame, or 6."""
    frame_pixel_spacings_mm = dy.List(dy.Float64(), nullable=True)
    """2 a frame, or 2."""
    frame_types = dy.List(dy.String(nullable=True), nullable=True)
    """FrameType with "/", 1 a frame, or 1."""
    frame_acquisition_numbers = dy.List(dy.Int64(nullable=True), nullable=True)
    frame_temporal_position_indices = dy.List(dy.Int64(nullable=True), nullable=True)
    frame_rescale_slopes = dy.List(dy.Float64(nullable=True), nullable=True)
    """Null for a frame without a number, as in the lists below."""
    frame_rescale_intercepts = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_rescale_types = dy.List(dy.String(nullable=True), nullable=True)
    frame_kernels = dy.List(dy.String(nullable=True), nullable=True)
    frame_kvps_kv = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_slice_thicknesses_mm = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_cardiac_phases_percent = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_trigger_delays_ms = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_respiratory_phases_percent = dy.List(dy.Float64(nullable=True), nullable=True)
    frame_stack_ids = dy.List(dy.String(nullable=True), nullable=True)
    frame_contrast_phases = dy.List(dy.String(nullable=True), nullable=True)
    frame_acquisition_times = dy.List(dy.String(nullable=True), nullable=True)

    # Mask objects: SEG and RTSTRUCT
    segmentation_type = dy.String(nullable=True)
    maximum_fractional_value = dy.Int64(nullable=True)
    segments_overlap = dy.String(nullable=True)
    """As stated: YES, NO, UNDEFINED."""
    has_overlap = dy.Bool(nullable=True)
    """As found in the pixels; null for RTSTRUCT."""
    frame_segment_numbers = dy.List(dy.Int64(nullable=True), nullable=True)
    segment_numbers = dy.List(dy.Int64(nullable=True), nullable=True)
    """ROI numbers for RTSTRUCT."""
    segment_labels = dy.List(dy.String(nullable=True), nullable=True)
    """ROI names for RTSTRUCT."""
    segment_types = dy.List(
        dy.String(nullable=True), nullable=True
    )  # property type, or RT ROI interpreted type
    segment_categories = dy.List(dy.String(nullable=True), nullable=True)
    segment_algorithms = dy.List(dy.String(nullable=True), nullable=True)
    segment_voxels = dy.List(dy.Int64(), nullable=True)
    """FRACTIONAL: half of the maximum or more."""
    segment_contours = dy.List(dy.Int64(), nullable=True)
    """RTSTRUCT: closed planar contours."""
    segment_boxes_mm = dy.List(
        dy.Float64(allow_nan=True, allow_inf=True), nullable=True
    )  # 6 a segment: least x y z, greatest x y z; NaN
    contour_planes_mm = dy.List(dy.Float64(), nullable=True)
    """RTSTRUCT: a point of each contour, 3 each."""
    referenced_series_instance_uids = dy.List(dy.String(), nullable=True)
    referenced_sop_instance_uids = dy.List(dy.String(), nullable=True)
    referenced_frame_of_reference_uids = dy.List(dy.String(), nullable=True)


class SeriesAudit(dy.Schema):
    """A row a series of the cohort: what belongs together in space and acquisition, and what becomes of it.

    Header facts are the value of most slices; null where no slice tells or where there is no geometry.
    """

    series_id = dy.String(primary_key=True)
    """SeriesInstanceUID, with `_2`, `_3` where one UID holds several volumes."""
    series_instance_uid = dy.String(nullable=True)
    study_instance_uid = dy.String(nullable=True)
    patient_id = dy.String(nullable=True)
    kind = dy.String(check=lambda column: column.is_in(["ct", "localizer", "seg", "rtstruct", "other"]))
    decision = dy.String(check=lambda column: column.is_in(["convert", "correct", "refuse"]))
    reasons = dy.List(dy.String())
    """Why it is refused, or what is corrected."""
    warnings = dy.List(dy.String())
    split_by = dy.List(dy.String())
    """Attributes that part it from other volumes under its UID."""
    is_principal = dy.Bool()
    not_principal_because = dy.String(nullable=True)
    """What rules a CT series out as its patient's principal one, or what the chosen one has over it."""
    instances = dy.Int64()
    """Slices for CT, objects elsewhere."""
    left_out = dy.Int64()
    """Instances under the same UID that are no part of it."""

    # Geometry, from positions and orientations alone
    plane = dy.String(nullable=True)
    slices = dy.Int64(nullable=True)
    """Distinct places along the normal."""
    rows = dy.Int64(nullable=True)
    matrix_columns = dy.Int64(nullable=True, alias="columns")
    row_spacing_mm = dy.Float64(nullable=True)
    """Between rows."""
    column_spacing_mm = dy.Float64(nullable=True)
    """Between columns."""
    slice_spacing_mm = dy.Float64(nullable=True)
    """Along the normal."""
    slice_step_min_mm = dy.Float64(nullable=True)
    slice_step_max_mm = dy.Float64(nullable=True)
    slice_step_spread_mm = dy.Float64(nullable=True)
    slice_thickness_mm = dy.Float64(nullable=True)
    spacing_minus_thickness_mm = dy.Float64(nullable=True)
    """Positive: tissue between the slices is unseen; negative: slices overlap."""
    coverage_mm = dy.Float64(nullable=True)
    """First to last slice, centre to centre."""
    gaps = dy.Int64(nullable=True)
    missing_slices = dy.Int64(nullable=True)
    """Slices that fit into the gaps, where whole numbers do."""
    duplicate_positions = dy.Int64(nullable=True)
    tilt_deg = dy.Float64(nullable=True)
    shear_row_mm_per_slice = dy.Float64(nullable=True)
    shear_column_mm_per_slice = dy.Float64(nullable=True)
    obliqueness_deg = dy.Float64(nullable=True)
    orientation_spread_deg = dy.Float64(nullable=True)
    pixel_spacing_spread_mm = dy.Float64(nullable=True)
    max_corner_error_mm = dy.Float64(nullable=True)
    """Largest distance of any slice's corner from the regular grid."""
    frames_of_reference = dy.Int64()
    field_of_view_mm = dy.Float64(nullable=True)
    """Columns x spacing between columns."""
    reconstruction_diameter_mm = dy.Float64(nullable=True)
    data_collection_diameter_mm = dy.Float64(nullable=True)
    is_field_of_view_cropped = dy.Bool(nullable=True)
    """The matrix shows less than ReconstructionDiameter: cropped after reconstruction."""

    # Intensity
    rescales = dy.Int64(nullable=True)
    """Distinct pairs of slope and intercept."""
    rescale_slope = dy.Float64(nullable=True)
    rescale_intercept = dy.Float64(nullable=True)
    rescale_type = dy.String(nullable=True)
    pixel_padding_value = dy.Int64(nullable=True)
    bits_stored = dy.Int64(nullable=True)
    pixel_representation = dy.Int64(nullable=True)
    transfer_syntax_uid = dy.String(nullable=True)
    is_lossy = dy.Bool()

    # Appearance and confounders
    image_type = dy.List(dy.String(), nullable=True)
    is_original = dy.Bool()
    """ImageType begins ORIGINAL and PRIMARY."""
    kernels = dy.Int64()
    convolution_kernel = dy.String(nullable=True)
    kvp_kv = dy.Float64(nullable=True)
    exposure_mas = dy.Float64(nullable=True)
    xray_tube_current_ma = dy.Float64(nullable=True)
    ctdi_vol_mgy = dy.Float64(nullable=True)
    spiral_pitch_factor = dy.Float64(nullable=True)
    filter_type = dy.String(nullable=True)
    has_contrast = dy.Bool()
    """ContrastBolusAgent is told."""
    body_part_examined = dy.String(nullable=True)
    patient_position = dy.String(nullable=True)
    manufacturer = dy.String(nullable=True)
    manufacturer_model_name = dy.String(nullable=True)
    software_versions = dy.String(nullable=True)
    institution_name = dy.String(nullable=True)
    patient_age_years = dy.Float64(nullable=True)
    patient_sex = dy.String(nullable=True)
    acquisition_date = dy.Date(nullable=True)


class MaskAudit(dy.Schema):
    """A row a mask object (SEG or RTSTRUCT): what it refers to, and whether it fits that CT. Null: unknown."""

    sop_instance_uid = dy.String(nullable=True)
    path = dy.String(primary_key=True)
    patient_id = dy.String(nullable=True)
    series_instance_uid = dy.String(nullable=True)
    kind = dy.String(check=lambda column: column.is_in(["seg", "rtstruct"]))
    segmentation_type = dy.String(nullable=True)
    reasons = dy.List(dy.String())
    """Why it cannot serve as its CT's tumour mask."""
    warnings = dy.List(dy.String())
    is_usable = dy.Bool()
    """Conversion makes a label map of it; whether it holds one tumour, `reasons` tell too."""

    # Reference
    referenced_series_instance_uid = dy.String(nullable=True)
    """The CT series that is meant; where that is not there, the one that is named."""
    referenced_series_id = dy.String(nullable=True)
    """The same among the series that are there; null where none is."""
    referenced_by = dy.String(nullable=True)
    """`sop_instance`, `series`, `frame_of_reference` or `position`."""
    references_principal_series = dy.Bool(nullable=True)
    """Null where the patient has no principal series."""
    is_referenced_series_present = dy.Bool()
    referenced_instances = dy.Int64()
    referenced_instances_present = dy.Int64()

    # Geometry against the CT that is meant; positions of frames or contours
    frame_of_reference_matches = dy.Bool(nullable=True)
    orientation_matches = dy.Bool(nullable=True)
    pixel_spacing_matches = dy.Bool(nullable=True)
    pixels_coincide = dy.Bool(nullable=True)
    """Pixel centres of mask and CT are the same points."""
    positions_match = dy.Bool(nullable=True)
    """Every frame or contour plane lies on a slice."""
    is_inside_volume = dy.Bool(nullable=True)
    geometry_fits = dy.Bool(nullable=True)
    """Conversion puts it onto the image, exactly or resampled as set; null where the CT has no geometry."""
    max_plane_offset_mm = dy.Float64(nullable=True)
    """Largest distance of a frame or contour plane from the nearest slice."""
    planes = dy.Int64(nullable=True)
    planes_on_slices = dy.Int64(nullable=True)

    # Content
    segments = dy.Int64()
    segment_labels = dy.List(dy.String())
    has_overlap = dy.Bool(nullable=True)
    is_empty = dy.Bool(nullable=True)
    """No segment holds a voxel, no structure a contour."""
    tumour_segment_number = dy.Int64(nullable=True)
    """The segment that is the tumour; null where none is, or several could be."""
    tumour_segment_label = dy.String(nullable=True)
    tumour_rank = dy.Int64(nullable=True)
    """Which rank of `audit.tumour.ranks` decided, from 0; null where the only segment was taken."""
    tumour_candidates = dy.Int64()
    """Segments of the best rank."""
    is_tumour_ambiguous = dy.Bool()
    tumour_voxels = dy.Int64(nullable=True)
    tumour_volume_ml = dy.Float64(nullable=True)


class MaskDecisions(dy.Schema):
    """A row a mask object that means a usable CT series: what conversion makes of it, and for which input."""

    path = dy.String(primary_key=True)
    key = dy.String()
    """Digest of the file's state, the series' slices and the settings."""
    reasons = dy.List(dy.String())
    """Why it is refused; empty where it is converted."""
    warnings = dy.List(dy.String())
    segment_numbers = dy.List(dy.Int64())
    segment_voxels = dy.List(dy.Int64())
    """Voxels on the image's grid."""
    segment_reasons = dy.List(dy.String(nullable=True))
    """Why a segment or ROI was left out; null where it was not."""
    has_overlap = dy.Bool(nullable=True)


class PatientAudit(dy.Schema):
    """A row a patient: the facts that decide about eligibility, as far as images tell them."""

    patient_id = dy.String(primary_key=True)
    files = dy.Int64()
    """Instances of all kinds, each counted once however often it was delivered."""
    studies = dy.Int64()
    ct_series = dy.Int64()
    """Volumes of CT slices; localizers are none."""
    ct_series_not_refused = dy.Int64()
    localizer_series = dy.Int64()
    seg_objects = dy.Int64()
    rtstruct_objects = dy.Int64()
    contradicting_instances = dy.Int64()
    """Instances that share a SOPInstanceUID with an unequal one."""
    has_principal_series = dy.Bool()
    principal_series_id = dy.String(nullable=True)
    principal_series_instance_uid = dy.String(nullable=True)
    principal_why = dy.String()
    """What decided, or why there is none."""
    is_principal_a_tie = dy.Bool()
    """Only the last, arbitrary rule told the principal series from the next one."""
    principal_decision = dy.String(nullable=True)
    principal_reasons = dy.List(dy.String())
    principal_slices = dy.Int64(nullable=True)
    principal_slice_spacing_mm = dy.Float64(nullable=True)
    principal_slice_thickness_mm = dy.Float64(nullable=True)
    has_exactly_one_seg = dy.Bool()
    seg_sop_instance_uid = dy.String(nullable=True)
    """The only SEG object; null where there is none or several. The columns below are about it."""
    seg_references_principal_series = dy.Bool(nullable=True)
    seg_geometry_fits = dy.Bool(nullable=True)
    seg_has_tumour = dy.Bool(nullable=True)
    """Exactly one segment is the tumour, and it holds voxels."""
    seg_reasons = dy.List(dy.String())
