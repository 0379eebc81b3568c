"""Schemas of the NIfTI cache; a line a column, units in names."""

import dataframely as dy


class NiftiDigests(dy.Schema):
    """A row a case of the manifest: what its files were made from, and what they hold."""

    case_id = dy.String(primary_key=True)
    patient_id = dy.String()
    status = dy.String()  # converted or refused
    reasons = dy.List(dy.String())
    warnings = dy.List(dy.String())
    image = dy.String()  # relative to the data root
    label = dy.String()
    image_series_id = dy.String(nullable=True)
    mask_sop_instance_uid = dy.String(nullable=True)
    found_by = dy.String(nullable=True)  # by which reference of the mask the series was found
    tumour_segment_number = dy.Int64(nullable=True)
    tumour_segment_label = dy.String(nullable=True)
    input_digest = dy.String()  # headers of the image's and the mask's files, and the manifest's digests
    settings_digest = dy.String()
    code_version = dy.String()
    image_sha256 = dy.String(nullable=True)  # of the files; null where refused
    label_sha256 = dy.String(nullable=True)
    shape = dy.List(dy.Int64(), nullable=True)  # i, j, k
    spacing_mm = dy.List(dy.Float64(), nullable=True)  # i, j, k
    hu_min = dy.Float64(nullable=True)
    hu_max = dy.Float64(nullable=True)
    tumour_voxels = dy.Int64(nullable=True)
    tumour_volume_ml = dy.Float64(nullable=True)
    max_position_error_mm = dy.Float64(nullable=True)  # null where the geometry was corrected
    made_at = dy.Datetime(time_zone="UTC")
