"""Schemas of the header index and the CT preprocessing audit; a line a column, units in names."""

import dataframely as dy


class MetadataAudit(dy.Schema):
    """A row an instance: what its header says, typed; null where it is absent or cannot be read."""

    path = dy.String(primary_key=True)
    file_size_bytes = dy.Int64()
    content_sha256 = dy.String(nullable=True)  # data set's bytes; only where a SOPInstanceUID occurs again
    pixel_sha256 = dy.String(nullable=True)  # pixel data's bytes; only where uid or position occurs again
    is_dicom = dy.Bool()
    problems = dy.List(dy.String())  # reason codes of what could not be read
    oddities = dy.List(dy.String())  # "column:oddity" of raw values that had to be read tolerantly

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
    series_time_s = dy.Float64(nullable=True)  # seconds since midnight
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
    pixel_spacing_mm = dy.List(dy.Float64(), nullable=True)  # between rows, between columns
    rows = dy.Int64(nullable=True)
    matrix_columns = dy.Int64(nullable=True, alias="columns")  # `columns` is taken in the class
    number_of_frames = dy.Int64(nullable=True)
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
    pixel_padding_value = dy.Int64(nullable=True)
    pixel_padding_range_limit = dy.Int64(nullable=True)
    has_pixel_data = dy.Bool(nullable=True)
    pixel_data_bytes = dy.Int64(nullable=True)  # null where encapsulated or absent

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
    frame_positions_mm = dy.List(dy.Float64(), nullable=True)  # 3 a frame
    frame_orientations = dy.List(dy.Float64(), nullable=True)  # 6 a frame, or 6
    frame_pixel_spacings_mm = dy.List(dy.Float64(), nullable=True)  # 2 a frame, or 2
    frame_types = dy.List(dy.String(), nullable=True)  # FrameType with "/", 1 a frame, or 1
    frame_acquisition_numbers = dy.List(dy.Int64(), nullable=True)
    frame_temporal_position_indices = dy.List(dy.Int64(), nullable=True)
    frame_rescale_slopes = dy.List(dy.Float64(), nullable=True)
    frame_rescale_intercepts = dy.List(dy.Float64(), nullable=True)

    # Mask objects: SEG and RTSTRUCT
    segmentation_type = dy.String(nullable=True)
    maximum_fractional_value = dy.Int64(nullable=True)
    segments_overlap = dy.String(nullable=True)  # as stated: YES, NO, UNDEFINED
    has_overlap = dy.Bool(nullable=True)  # as found in the pixels; null for RTSTRUCT
    frame_segment_numbers = dy.List(dy.Int64(), nullable=True)
    segment_numbers = dy.List(dy.Int64(), nullable=True)  # ROI numbers for RTSTRUCT
    segment_labels = dy.List(dy.String(), nullable=True)  # ROI names for RTSTRUCT
    segment_types = dy.List(dy.String(), nullable=True)  # property type, or RT ROI interpreted type
    segment_categories = dy.List(dy.String(), nullable=True)
    segment_algorithms = dy.List(dy.String(), nullable=True)
    segment_voxels = dy.List(dy.Int64(), nullable=True)  # FRACTIONAL: half of the maximum or more
    segment_contours = dy.List(dy.Int64(), nullable=True)  # RTSTRUCT: closed planar contours
    segment_boxes_mm = dy.List(dy.Float64(), nullable=True)  # 6 a segment: least x y z, greatest x y z; NaN
    contour_planes_mm = dy.List(dy.Float64(), nullable=True)  # RTSTRUCT: a point of each contour, 3 each
    referenced_series_instance_uids = dy.List(dy.String(), nullable=True)
    referenced_sop_instance_uids = dy.List(dy.String(), nullable=True)
    referenced_frame_of_reference_uids = dy.List(dy.String(), nullable=True)
