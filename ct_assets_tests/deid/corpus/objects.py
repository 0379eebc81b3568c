"""DICOM objects of the corpus: a patient's header with all its identifiers, and objects of many SOP classes.

Belongs here: building single objects. Does not: which case needs which (`cases_*`).
"""

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from ct_assets_tests.deid.corpus import pictures
from ct_assets_tests.deid.corpus.people import Person
from ct_assets_tests.deid.corpus.things import Thing, empty_meta

STORAGE = "1.2.840.10008.5.1.4.1.1."
ROOT = "1.3.6.1.4.1.99999.20"


class Uids:
    """A seeded source of the hospital's UIDs."""

    def __init__(self, seed: int) -> None:
        self._seed, self._count = seed, 0

    def __call__(self) -> UID:
        self._count += 1
        return UID(f"{ROOT}.{self._seed}.{self._count}.{(self._seed * 7919 + self._count * 104729) % 10**9}")


def study(person: Person, uids: Uids, **dates: str) -> Dataset:
    """Return what all objects of one study share; dates may be given."""
    header = Dataset()
    header.StudyInstanceUID = uids()
    header.FrameOfReferenceUID = uids()
    header.StudyDate = dates.get("study_date", "20200117")
    header.StudyTime = dates.get("study_time", "101112")
    return header


def thing(
    case: str, path: str, person: Person, header: Dataset, sop_class: str, modality: str, uids: Uids
) -> Thing:
    """Return an object with the patient's and the study's identifiers in it, each noted for the key."""
    dataset = Dataset()
    dataset.file_meta = empty_meta()
    made = Thing(path, case, person, dataset)
    if person.charset:
        dataset.SpecificCharacterSet = (
            list(person.charset) if isinstance(person.charset, tuple) else person.charset
        )
    dataset.SOPClassUID = STORAGE + sop_class
    put = made.put
    put("SOPInstanceUID", uids(), "replaced", "nowhere")
    put("StudyInstanceUID", header.StudyInstanceUID, "replaced", "nowhere")
    put("SeriesInstanceUID", header.get("SeriesInstanceUID") or uids(), "replaced", "nowhere")
    put("Modality", modality, "kept", "same")
    _patient(made, person)
    _visit(made, person, header)
    return made


def _patient(made: Thing, person: Person) -> None:
    put, told = made.put, person.tokens
    put("PatientName", person.written_name, "replaced", "nowhere")
    put("PatientID", person.patient_id, "replaced", "nowhere")
    put("IssuerOfPatientID", person.issuer, "removed", "not_here")
    put("PatientBirthDate", person.birth_date, "removed", "nowhere")
    put("PatientSex", person.sex, "kept", "same")
    put("PatientAge", person.age, "kept", "same")
    put("PatientSize", "1.71", "kept", "same")
    put("PatientWeight", "68", "kept", "same")
    put("OtherPatientIDsSequence[0].PatientID", told["other patient id"], "removed", "nowhere")
    put("OtherPatientIDsSequence[0].TypeOfPatientID", "TEXT", "removed", "policy")
    put("PatientBirthName", f"{told['birth name']}^{person.given}", "removed", "nowhere")
    put("PatientAddress", told["street"], "removed", "nowhere")
    put("PatientTelephoneNumbers", told["phone"], "removed", "nowhere")
    put("InsurancePlanIdentification", told["insurance"], "removed", "nowhere")
    put(
        "PatientComments",
        f"call {told['phone']} before the scan, ask for {person.family}",
        "removed",
        "nowhere",
    )


def _visit(made: Thing, person: Person, header: Dataset) -> None:
    put, told = made.put, person.tokens
    put("StudyDate", header.StudyDate, "shifted", "not_here")
    put("StudyTime", header.StudyTime, "kept", "policy")
    put("SeriesDate", header.StudyDate, "shifted", "not_here")
    put("AccessionNumber", told["accession number"], "removed", "nowhere")
    put("StudyID", told["study id"], "removed", "nowhere")
    put("AdmissionID", told["visit id"], "removed", "nowhere")
    put("ReferringPhysicianName", f"{told['physician']}^Ottoline", "removed", "nowhere")
    put("OperatorsName", f"{told['operator']}^Percival", "removed", "nowhere")
    put("InstitutionName", told["institution"], "removed", "nowhere")
    put("StationName", told["station"], "removed", "nowhere")
    put("DeviceSerialNumber", told["device serial number"], "removed", "nowhere")
    put("Manufacturer", "Orbweaver Imaging", "kept", "same")
    put("ManufacturerModelName", "Heliotrope 64", "kept", "same")
    put("RequestAttributesSequence[0].RequestedProcedureID", told["request id"], "removed", "nowhere")


def image(
    made: Thing, frames: np.ndarray, *, photometric: str = "MONOCHROME2", planar: int | None = None
) -> Thing:
    """Give the object pixels: `(rows, columns)`, `(frames, rows, columns)` or, in colour, `(…, 3)`.

    Planar colour is rearranged here; the array is always colour by pixel.
    """
    dataset, colour = made.dataset, photometric in ("RGB", "YBR_FULL")
    shape = frames.shape[:-1] if colour else frames.shape
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = photometric
    if colour:
        dataset.PlanarConfiguration = planar or 0
    if len(shape) == 3:
        dataset.NumberOfFrames = shape[0]
    bits = frames.dtype.itemsize * 8
    made.put("Rows", shape[-2], "kept", "same")
    made.put("Columns", shape[-1], "kept", "same")
    dataset.BitsAllocated = bits
    dataset.BitsStored = 12 if frames.dtype == np.uint16 else bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    if planar:
        frames = np.moveaxis(frames, -1, -3)
    dataset.PixelData = np.ascontiguousarray(frames).tobytes()
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return made


def ct_slice(
    case: str,
    path: str,
    person: Person,
    header: Dataset,
    uids: Uids,
    *,
    number: int = 1,
    pixels: np.ndarray | None = None,
) -> Thing:
    """Return one CT slice, 3 mm from its neighbours."""
    made = thing(case, path, person, header, "2", "CT", uids)
    put = made.put
    put("FrameOfReferenceUID", header.FrameOfReferenceUID, "replaced", "nowhere")
    put("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], "kept", "same")
    put("AcquisitionDate", header.StudyDate, "shifted", "not_here")
    put("ContentDate", header.StudyDate, "shifted", "not_here")
    put("SeriesDescription", "Thorax 3.0 Br40", "kept", "policy")
    put("SliceThickness", "3", "kept", "same")
    put("KVP", "120", "kept", "same")
    put("ConvolutionKernel", "Br40", "kept", "same")
    put("PixelSpacing", ["0.8", "0.8"], "kept", "same")
    put("ImagePositionPatient", ["-25.6", "-25.6", str(-100 + 3 * number)], "kept", "same")
    put("ImageOrientationPatient", ["1", "0", "0", "0", "1", "0"], "kept", "same")
    put("RescaleIntercept", "-1024", "kept", "same")
    put("RescaleSlope", "1", "kept", "same")
    made.dataset.RescaleType = "HU"
    made.dataset.InstanceNumber = str(number)
    made.dataset.AcquisitionNumber = "1"
    made.dataset.PatientPosition = "HFS"
    made.dataset.PositionReferenceIndicator = ""
    made.dataset.SeriesNumber = "2"
    return image(made, pictures.body(64, 64, number) if pixels is None else pixels)


def ct_series(
    case: str, folder: str, person: Person, header: Dataset, uids: Uids, *, slices: int = 3
) -> list[Thing]:
    """Return a short CT series."""
    header.SeriesInstanceUID = uids()
    made = [
        ct_slice(case, f"{folder}/{number:02d}.dcm", person, header, uids, number=number)
        for number in range(1, slices + 1)
    ]
    del header.SeriesInstanceUID
    return made


def segmentation(case: str, path: str, person: Person, slices: list[Thing], uids: Uids) -> Thing:
    """Return a SEG of the given slices as highdicom writes it, identifiers and all references noted."""
    import highdicom as hd

    sources = [slice_.dataset for slice_ in slices]
    mask = np.zeros((len(sources), 64, 64), np.uint8)
    mask[:, 20:30, 20:30] = 1
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="GTV-1",
        segmented_property_category=hd.sr.CodedConcept(
            "49755003", "SCT", "Morphologically Altered Structure"
        ),
        segmented_property_type=hd.sr.CodedConcept("108369006", "SCT", "Neoplasm"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=uids(),
        tracking_id="GTV-1",
    )
    built = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=uids(),
        series_number=9,
        sop_instance_uid=uids(),
        instance_number=1,
        manufacturer="Orbweaver Imaging",
        manufacturer_model_name="Heliotrope Reader",
        software_versions="4.1",
        device_serial_number=person.tokens["device serial number"],
        content_creator_name=f"{person.tokens['operator']}^Percival",
        content_description="outlined twice",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    seg = Dataset()
    seg.update(built)
    seg.file_meta = empty_meta()
    made = Thing(path, case, person, seg)
    if person.charset:
        seg.SpecificCharacterSet = (
            list(person.charset) if isinstance(person.charset, tuple) else person.charset
        )
    organization = uids()
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    seg.InstanceCreationDate, seg.InstanceCreationTime = "20200118", "090000"
    seg.ContentDate, seg.ContentTime = "20200118", "090000"
    for equipment in seg.ContributingEquipmentSequence:
        equipment.ContributionDateTime = "20200118090000"
    _patient(made, person)
    _visit(made, person, sources[0])
    for where in _uid_paths(seg):
        made.mark(where, "replaced", "nowhere")
    made.mark("00700084", "removed", "nowhere")
    for where in ("00620002[0].00620005", "00620002[0].00620004"):
        made.mark(where, "kept", "policy")
    made.mark("00620002[0].0062000F[0].00080104", "kept", "same")
    made.mark("00620002[0].00620008", "kept", "same")
    made.mark("00280008", "kept", "same")
    return made


def _uid_paths(dataset: Dataset, prefix: str = "", first_items: int = 2) -> list[str]:
    """Return the paths of all UIDs that are not the Standard's own, in the first items of each sequence."""
    found = []
    for element in dataset:
        path = f"{prefix}{element.tag:08X}"
        if element.VR == "SQ":
            for index, item in enumerate(element.value[:first_items]):
                found += _uid_paths(item, f"{path}[{index}].", first_items)
        elif element.VR == "UI" and str(element.value).startswith(ROOT):
            found.append(path)
    return found


def sequence(*items: Dataset) -> Sequence:
    """Return a sequence of items."""
    return Sequence(items)


def item(**elements: object) -> Dataset:
    """Return one item."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


Build = Callable[..., list[Thing]]
