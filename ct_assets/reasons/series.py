"""Reason codes of series, their geometry and conversion: (code, meaning, what the user can do)."""

EXPORT_AGAIN = "Export the whole series again from the archive."

NOTHING = "Nothing need be done."
REASONS: tuple[tuple[str, str, str], ...] = (
    # What a file is
    ("no_dicom_file", "The file is empty or no DICOM file.", "Nothing need be done."),
    ("unreadable_header", "The file begins like DICOM and its header cannot be read.", EXPORT_AGAIN),
    (
        "unreadable_sequences",
        "The frames, segments or structures of the object cannot be read.",
        EXPORT_AGAIN,
    ),
    ("no_pixel_data", "An image of the series has no pixel data.", EXPORT_AGAIN),
    ("truncated_pixel_data", "The file ends before its pixel data does.", EXPORT_AGAIN),
    (
        "pixel_data_length_mismatch",
        "The pixel data is longer or shorter than Rows, Columns and bits say.",
        EXPORT_AGAIN,
    ),
    ("not_a_ct_image", "The object is no CT image.", "It stays out of volumes; nothing need be done."),
    ("localizer", "The image is a localizer (scout), not a slice.", "It stays out of volumes."),
    (
        "no_place",
        "A derived image without position or orientation: a screen shot or a dose page.",
        "It stays out of volumes; nothing need be done.",
    ),
    ("modality_not_ct", "An image under a CT SOP class says another modality.", "Ask who made the object."),
    (
        "not_monochrome",
        "An image is in colour or a palette: its pixels are no Hounsfield units.",
        "It stays out of volumes; nothing need be done.",
    ),
    # Identity
    (
        "invalid_uid",
        "A SeriesInstanceUID or SOPInstanceUID is no UID: digits with dots between them, at most 64 characters.",
        "Ask who made the object; de-identification gives every object new UIDs.",
    ),
    (
        "invalid_reference_uid",
        "A StudyInstanceUID or FrameOfReferenceUID is no UID; it is compared as text only (a warning).",
        "Ask who made the objects.",
    ),
    (
        "output_occupied",
        "The folder for this series holds files that this program did not make; nothing there was touched.",
        "Choose another output folder.",
    ),
    (
        "series_uid_of_two_patients",
        "One SeriesInstanceUID stands in the headers of two patients.",
        "Ask whose images they are; neither patient's are used.",
    ),
    (
        "series_uid_of_two_studies",
        "One SeriesInstanceUID stands in two studies.",
        "Export both studies again; which slices belong together is not told.",
    ),
    (
        "delivered_twice",
        "The same instance, byte for byte, was delivered more than once; it counts once.",
        NOTHING,
    ),
    (
        "contradicting_instances",
        "One SOPInstanceUID stands for unequal instances; none of them is taken.",
        "Find out which one is right and deliver it alone.",
    ),
    # Geometry
    ("missing_position", "ImagePositionPatient is absent, empty or no number.", EXPORT_AGAIN),
    ("missing_orientation", "ImageOrientationPatient is absent, empty or no number.", EXPORT_AGAIN),
    ("missing_pixel_spacing", "PixelSpacing is absent, empty or no number.", EXPORT_AGAIN),
    ("missing_matrix", "Rows or Columns is absent or zero.", EXPORT_AGAIN),
    ("absurd_position", "A position lies further away than any CT table reaches.", EXPORT_AGAIN),
    ("invalid_orientation", "ImageOrientationPatient is no pair of orthogonal unit vectors.", EXPORT_AGAIN),
    ("invalid_pixel_spacing", "PixelSpacing is zero, negative or of no CT's size.", EXPORT_AGAIN),
    ("mixed_matrix", "Slices of one series differ in Rows or Columns.", EXPORT_AGAIN),
    ("mixed_orientation", "Slices of one series differ in orientation.", EXPORT_AGAIN),
    ("mixed_pixel_spacing", "Slices of one series differ in PixelSpacing.", EXPORT_AGAIN),
    ("single_slice", "One slice alone tells no spacing and is no volume.", EXPORT_AGAIN),
    (
        "duplicate_positions",
        "Two unequal slices lie at one place.",
        "Find out which slice is right, or which attribute tells two acquisitions apart.",
    ),
    (
        "exact_duplicate_positions",
        "Two slices at one place hold the same pixels.",
        "Set audit.exact_duplicates to correct, and one of them is dropped.",
    ),
    (
        "gantry_tilt",
        "The slices go at an angle to their normal: a tilted gantry.",
        "Set audit.tilt to correct, and the shear is resampled away.",
    ),
    ("slices_off_line", "The slices do not lie on one straight line.", EXPORT_AGAIN),
    ("missing_slices", "Gaps of whole steps: slices are missing.", EXPORT_AGAIN),
    (
        "multi_frame_ct_image",
        "A CT Image Storage object holds several frames, and nothing says where each lies (PS3.3 A.3).",
        "Have it exported as Enhanced CT or as single images.",
    ),
    (
        "concatenation_incomplete",
        "Parts of a multi-frame image (a concatenation) are missing.",
        EXPORT_AGAIN,
    ),
    (
        "unit_not_stated",
        "A map of a multi-energy CT (a material, effective atomic number, density) without RescaleType: its values "
        "have no stated unit.",
        "Ask the site for the unit; deliver the images in Hounsfield units.",
    ),
    (
        "unit_not_proven",
        "ImageType or MultienergyCTAcquisition speaks against plain Hounsfield units, RescaleType does not settle it "
        "(a warning).",
        "Ask the site what the values are.",
    ),
    (
        "codestream_contradicts_header",
        "The compressed pixels have another sign and precision than the header, and the values differ by which "
        "holds (PS3.5 A.4.4).",
        "Have the archive send it uncompressed.",
    ),
    (
        "uneven_spacing",
        "The steps between slices differ by more than the tolerance.",
        "Set audit.uneven_spacing to correct, and the slices are resampled to even steps.",
    ),
    (
        "oblique_orientation",
        "The images lie at more than the allowed angle to the patient's axes; they are converted on their own grid, "
        "and do not stand for their patient (a warning).",
        "Set audit.oblique to convert, or audit.oblique_tolerance_deg, where they may be a principal series.",
    ),
    (
        "localizer_inside",
        "A localizer stands among the slices, and the settings refuse that.",
        "Let the settings leave localizers out, or export the series without it.",
    ),
    # Why a CT series is not its patient's principal one
    ("no_geometry", "The geometry of the series could not be measured.", "See the series' own reasons."),
    ("not_axial", "The slices of the series are not axial.", "Deliver the axial series."),
    (
        "too_few_slices",
        "The series has fewer slices than audit.principal.min_slices.",
        "Deliver the whole series, or lower audit.principal.min_slices.",
    ),
    # Warnings of a series
    ("localizer_left_out", "A localizer stood among the slices and was left out.", NOTHING),
    ("not_a_ct_image_left_out", "An object that is no CT image shared the series and was left out.", NOTHING),
    ("no_place_left_out", "A derived image without place shared the series and was left out.", NOTHING),
    (
        "several_frames_of_reference",
        "Several FrameOfReferenceUIDs in one gapless, even volume: taken for one volume.",
        "Look at the volume once; the positions agree.",
    ),
    (
        "no_frame_of_reference",
        "No slice has a FrameOfReferenceUID.",
        "Look at the mask on the image once; only positions tie them together.",
    ),
    ("several_acquisitions", "Several AcquisitionNumbers in one even volume.", NOTHING),
    ("several_kernels", "Several convolution kernels in one even volume.", "Look at it: texture may jump."),
    ("several_image_types", "Several ImageTypes in one even volume.", NOTHING),
    (
        "several_rescales",
        "Rescale slope or intercept differs between slices; each slice follows its own.",
        NOTHING,
    ),
    ("several_kvps", "The tube voltage (KVP) differs between slices.", "Look at it: HU may jump."),
    (
        "several_contrast_agents",
        "ContrastBolusAgent differs between slices of one even volume.",
        "Look at the volume once if contrast matters to the question.",
    ),
    ("several_reconstruction_diameters", "ReconstructionDiameter differs between slices.", NOTHING),
    (
        "several_slice_thicknesses",
        "SliceThickness differs between slices.",
        "Look at the series once if slice thickness matters to the question.",
    ),
    (
        "lossy_compression",
        "The pixels were compressed with loss.",
        "Ask for the original series if texture matters to the question.",
    ),
    (
        "rescale_type_not_hu",
        "RescaleType is another than HU: another unit refuses the series, an unspecified one (US, hu) is a warning.",
        "Ask the site for the unit if values look unlike Hounsfield units.",
    ),
    (
        "positions_rounded",
        "Positions miss the even grid by more than 0.01 mm, within the tolerance: rounded headers.",
        NOTHING,
    ),
    (
        "spacing_larger_than_thickness",
        "Slices are thinner than their spacing: tissue between them is unseen.",
        "Ask for a gapless reconstruction if small lesions matter.",
    ),
    (
        "spacing_tag_disagrees",
        "SpacingBetweenSlices is not the spacing of the positions, which holds.",
        NOTHING,
    ),
    ("tilt_tag_disagrees", "GantryDetectorTilt is not the tilt of the positions, which holds.", NOTHING),
    # How one UID was parted
    (
        "split_by_image_type",
        "One SeriesInstanceUID held several volumes, told apart by ImageType.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_convolution_kernel",
        "One SeriesInstanceUID held several volumes, told apart by kernel.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_matrix",
        "One SeriesInstanceUID held several volumes, told apart by Rows and Columns.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_orientation",
        "One SeriesInstanceUID held several volumes, told apart by orientation.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_pixel_spacing",
        "One SeriesInstanceUID held several volumes, told apart by PixelSpacing.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_acquisition_number",
        "One SeriesInstanceUID held several volumes, told apart by AcquisitionNumber.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_temporal_position",
        "One SeriesInstanceUID held several volumes, told apart by time point.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_cardiac_phase",
        "One SeriesInstanceUID held several volumes, told apart by cardiac phase.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_trigger_time",
        "One SeriesInstanceUID held several volumes, told apart by TriggerTime.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_contrast_bolus_agent",
        "One SeriesInstanceUID held several volumes, told apart by ContrastBolusAgent.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_respiratory_phase",
        "One SeriesInstanceUID held several volumes, told apart by respiratory phase.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_kvp",
        "One SeriesInstanceUID held several volumes, told apart by tube voltage (KVP).",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_stack",
        "One SeriesInstanceUID held several volumes, told apart by StackID.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_slice_thickness",
        "One SeriesInstanceUID held several volumes, told apart by SliceThickness.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_reconstruction_diameter",
        "One SeriesInstanceUID held several volumes, told apart by ReconstructionDiameter.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_filter_type",
        "One SeriesInstanceUID held several volumes, told apart by FilterType.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_series_number",
        "One SeriesInstanceUID held several volumes, told apart by SeriesNumber.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_acquisition_date",
        "One SeriesInstanceUID held several volumes, told apart by AcquisitionDate.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_frame_of_reference_uid",
        "One SeriesInstanceUID held several volumes, told apart by FrameOfReferenceUID.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    (
        "split_by_acquisition_time",
        "One SeriesInstanceUID held several volumes, told apart by AcquisitionTime.",
        "Each volume is a series of its own; nothing need be done.",
    ),
    # Pixels and intensity, found while converting
    ("pixel_data_unreadable", "The pixel data of an image cannot be decoded.", EXPORT_AGAIN),
    (
        "pixel_format_invalid",
        "Rows, Columns or the bits of a pixel are missing, zero or of no use.",
        EXPORT_AGAIN,
    ),
    (
        "transfer_syntax_unsupported",
        "No decoder at hand reads the transfer syntax.",
        "Have the archive send it uncompressed or losslessly compressed.",
    ),
    ("missing_rescale", "RescaleSlope or RescaleIntercept is absent: the values have no unit.", EXPORT_AGAIN),
    (
        "modality_lut_instead_of_rescale",
        "A Modality LUT stands where a CT image must have RescaleSlope and RescaleIntercept (PS3.3 C.8.2.1); "
        "its output has the unit of a table, not Hounsfield units.",
        "Ask for the images as the scanner made them, with slope and intercept.",
    ),
    (
        "unexpected_failure",
        "Something nobody foresaw failed on this object; all others went on.",
        "Report the kind of object and this program's version; set CT_ASSETS_DEBUG=1 to see the error.",
    ),
    ("invalid_rescale", "RescaleSlope is zero, or slope or intercept is no number.", EXPORT_AGAIN),
    (
        "unused_bits_ignored",
        "Bits above BitsStored held something else (old overlays); they are ignored.",
        NOTHING,
    ),
    ("padding_kept", "Pixels outside the scanned circle hold a padding value, which is kept.", NOTHING),
    ("padding_replaced_by_air", "Pixels with the padding value were replaced by air, as set.", NOTHING),
    ("series_refused", "A slice of a series that is refused as a whole.", NOTHING),
)
