-- Who may enter the cohort. Change conditions here; no Python is involved. Dialect: DuckDB.
--
-- One SELECT that returns one row for every patient:
--   patient_id             first column
--   <condition>            BOOLEAN: a condition; true = met, anything else (false, unknown) = not met
--   <condition>__reason    VARCHAR or VARCHAR[] beside it: the code, or codes, told when it is not met.
--                          NULL or [] where the condition merely follows from one that is told already.
--   any other column       text, number or date: a fact that goes into eligibility.parquet and cohort_list.csv
-- A patient is eligible when every condition is met. Codes of your own are welcome: lower_snake_case.
--
-- Tables (columns: docs/tables.md):
--   patients   a row a patient with released images: what the audit found, the principal CT series, the only SEG
--   series     a row a series         masks   a row a mask object (SEG, RTSTRUCT)
--   labels     a row a patient of any batch, labelled or not, with the columns that labels.keep declares
--   label_report   a row a row of the clinic's table

WITH limits AS (
    SELECT
        5.0 AS max_slice_spacing_mm,    -- further apart, small tumours fall between the slices
        5.0 AS max_slice_thickness_mm   -- thicker, they are blurred away
),

everybody AS (
    SELECT patient_id FROM patients
    UNION
    SELECT patient_id FROM labels
),

-- Why CT series of a patient cannot be the principal one.
unfit AS (
    SELECT patient_id, list(DISTINCT not_principal_because ORDER BY not_principal_because) AS why
    FROM series
    WHERE kind = 'ct' AND NOT is_principal AND not_principal_because IS NOT NULL
    GROUP BY patient_id
)

SELECT
    everybody.patient_id,

    -- 1. Labelled
    labels.rows > 0                                     AS has_label_row,
    'no_label'                                          AS has_label_row__reason,

    NOT coalesce(list_contains(labels.reasons, 'label_id_shared'), FALSE) AS has_label_of_its_own,
    'label_id_shared'                                   AS has_label_of_its_own__reason,

    labels.stage IS NOT NULL                            AS has_one_known_stage,
    [code FOR code IN labels.reasons IF starts_with(code, 'stage_')] AS has_one_known_stage__reason,

    -- 2. CT present, one SEG, and the SEG points to that CT
    patients.ct_series > 0                              AS has_ct,
    'no_ct'                                             AS has_ct__reason,

    patients.has_principal_series                       AS has_principal_series,
    CASE WHEN patients.ct_series > 0
         THEN list_concat(['no_principal_series'], unfit.why) END AS has_principal_series__reason,

    patients.has_exactly_one_seg                        AS has_one_seg,
    CASE WHEN patients.seg_objects > 1 THEN 'several_segs' ELSE 'no_seg' END AS has_one_seg__reason,

    patients.seg_references_principal_series            AS seg_references_principal_series,
    CASE WHEN patients.has_exactly_one_seg AND patients.has_principal_series
         THEN list_concat(['seg_references_other_series'], patients.seg_reasons)
    END                                                 AS seg_references_principal_series__reason,

    -- 3. Geometry valid for preprocessing, the mask not empty
    patients.principal_decision IN ('convert', 'correct') AS ct_geometry_is_valid,
    CASE WHEN patients.has_principal_series
         THEN list_concat(['ct_geometry_refused'], patients.principal_reasons)
    END                                                 AS ct_geometry_is_valid__reason,

    patients.principal_slice_spacing_mm <= limits.max_slice_spacing_mm
        AND coalesce(patients.principal_slice_thickness_mm, 0) <= limits.max_slice_thickness_mm
                                                        AS slices_are_thin_enough,
    CASE WHEN patients.principal_decision IN ('convert', 'correct')
         THEN 'slices_too_thick' END                    AS slices_are_thin_enough__reason,

    patients.seg_geometry_fits                          AS seg_geometry_is_valid,
    CASE WHEN patients.seg_references_principal_series
              AND patients.principal_decision IN ('convert', 'correct')
         THEN list_concat(['seg_misfit'], patients.seg_reasons)
    END                                                 AS seg_geometry_is_valid__reason,

    patients.seg_has_tumour                             AS mask_has_tumour,
    CASE WHEN patients.has_exactly_one_seg
         THEN list_concat(['tumour_missing'], patients.seg_reasons)
    END                                                 AS mask_has_tumour__reason,

    -- Whatever else the audit holds against the SEG.
    len(patients.seg_reasons) = 0                       AS seg_is_usable,
    CASE WHEN patients.seg_references_principal_series
              AND patients.principal_decision IN ('convert', 'correct')
              AND patients.seg_geometry_fits AND patients.seg_has_tumour
         THEN list_concat(['seg_unusable'], patients.seg_reasons)
    END                                                 AS seg_is_usable__reason,

    -- Facts
    labels.stage,
    patients.principal_series_instance_uid,
    patients.principal_slices,
    patients.principal_slice_spacing_mm,
    patients.seg_sop_instance_uid
FROM everybody
CROSS JOIN limits
LEFT JOIN labels USING (patient_id)
LEFT JOIN patients USING (patient_id)
LEFT JOIN unfit USING (patient_id)
