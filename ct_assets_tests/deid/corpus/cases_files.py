"""Hard cases 25 and 26, and encodings: duplicates, broken files, no DICOM, big-endian, deflated, enhanced."""

import copy

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from ct_assets_tests.deid.corpus import objects, pictures
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People, Person
from ct_assets_tests.deid.corpus.things import Thing, empty_meta


def duplicates(people: People, uids: Uids) -> list[Thing]:
    """25: one SOPInstanceUID with two contents: neither wins; an exact copy: one is kept."""
    person = people.person()
    header = objects.study(person, uids)
    first, second, third = objects.ct_series("25", "twice", person, header, uids)
    other = copy.deepcopy(first)
    other.path = "twice/resent.dcm"
    other.dataset.PixelData = pictures.body(64, 64, 99).tobytes()
    first.expected = other.expected = "quarantined"
    twin = Thing(
        "twice/zz_copy_of_03.dcm", "25", person, third.dataset, expected="rejected as exact_duplicate"
    )
    twin.raw = third.content()
    return [first, second, third, other, twin]


def broken_files(people: People, uids: Uids) -> list[Thing]:
    """26: truncated, empty, text, a directory of the medium, a name and nothing else."""
    person = people.person()
    header = objects.study(person, uids)
    whole, cut, cut_header = objects.ct_series("26", "broken", person, header, uids)
    cut.raw, cut.expected = cut.content()[:-2000], "rejected or quarantined"
    cut_header.raw, cut_header.expected = cut_header.content()[:700], "rejected or quarantined"
    broken = [cut, cut_header]
    texts = {
        "broken/IM_EMPTY": b"",
        f"broken/{person.family}.txt": f"{person.written_name} {person.patient_id}".encode(),
        "broken/only_a_prefix": b"\0" * 128 + b"DICM",
        "broken/notes.html": f"<p>{person.family}</p>".encode(),
    }
    for path, content in texts.items():
        broken.append(Thing(path, "26", person, objects.item(), "rejected", "none", raw=content))
    return [whole, *broken, _directory(person, uids)]


def encodings(people: People, uids: Uids) -> list[Thing]:
    """Big-endian, deflated and enhanced objects are released like any other."""
    person = people.person()
    header = objects.study(person, uids)
    deflated, big, _ = objects.ct_series("22", "encodings", person, header, uids)
    deflated.dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    big.dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.dataset.PixelData = np.frombuffer(big.dataset.PixelData, "<u2").byteswap().tobytes()
    enhanced = objects.thing("1", "encodings/enhanced.dcm", person, header, "2.1", "CT", uids)
    enhanced.put("FrameOfReferenceUID", header.FrameOfReferenceUID, "replaced", "nowhere")
    enhanced.put("ImageType", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "kept", "same")
    enhanced.put("AcquisitionDateTime", "20200117101112", "shifted", "not_here")
    dimension = uids()
    enhanced.dataset.DimensionOrganizationSequence = [objects.item(DimensionOrganizationUID=dimension)]
    enhanced.mark("00209221[0].00209164", "replaced", "nowhere")
    shared = "SharedFunctionalGroupsSequence[0]"
    enhanced.put(f"{shared}.PixelMeasuresSequence[0].PixelSpacing", ["0.8", "0.8"], "kept", "same")
    enhanced.put(f"{shared}.PixelMeasuresSequence[0].SliceThickness", "3", "kept", "same")
    for number in range(3):
        frame = f"PerFrameFunctionalGroupsSequence[{number}]"
        position = ["-25.6", "-25.6", str(3 * number)]
        enhanced.put(f"{frame}.PlanePositionSequence[0].ImagePositionPatient", position, "kept", "same")
        content = f"{frame}.FrameContentSequence[0]"
        enhanced.put(f"{content}.FrameAcquisitionDateTime", "20200117101113", "shifted", "not_here")
        comment = f"seen by {person.tokens['operator']}"
        enhanced.put(f"{content}.FrameComments", comment, "removed", "nowhere")
    objects.image(enhanced, np.stack([pictures.body(64, 64, number) for number in range(3)]))
    return [deflated, big, enhanced]


def structure_sets(people: People, uids: Uids) -> list[Thing]:
    """2: an RTSTRUCT, its references, its names: the benign ones stay."""
    person = people.person()
    header = objects.study(person, uids)
    slices = objects.ct_series("2", "rt/ct", person, header, uids)
    made = objects.thing("2", "rt/RS.dcm", person, header, "481.3", "RTSTRUCT", uids)
    made.pixels = "none"
    put = made.put
    put("StructureSetLabel", f"{person.family} plan", "removed", "nowhere")
    put("StructureSetDate", "20200119", "shifted", "not_here")
    put("ApprovalStatus", "UNAPPROVED", "kept", "policy")
    frame = "ReferencedFrameOfReferenceSequence[0]"
    put(f"{frame}.FrameOfReferenceUID", header.FrameOfReferenceUID, "replaced", "nowhere")
    study = f"{frame}.RTReferencedStudySequence[0]"
    put(f"{study}.ReferencedSOPClassUID", "1.2.840.10008.3.1.2.3.1", "kept", "same")
    put(f"{study}.ReferencedSOPInstanceUID", header.StudyInstanceUID, "replaced", "nowhere")
    series = f"{study}.RTReferencedSeriesSequence[0]"
    put(f"{series}.SeriesInstanceUID", slices[0].dataset.SeriesInstanceUID, "replaced", "nowhere")
    for number, slice_ in enumerate(slices):
        contour = f"{series}.ContourImageSequence[{number}]"
        put(f"{contour}.ReferencedSOPClassUID", slice_.dataset.SOPClassUID, "kept", "same")
        put(f"{contour}.ReferencedSOPInstanceUID", slice_.dataset.SOPInstanceUID, "replaced", "nowhere")
    for number, name in enumerate(("GTV-1", "Lung_L")):
        roi = f"StructureSetROISequence[{number}]"
        put(f"{roi}.ROINumber", str(number + 1), "kept", "same")
        put(f"{roi}.ReferencedFrameOfReferenceUID", header.FrameOfReferenceUID, "replaced", "nowhere")
        put(f"{roi}.ROIName", name, "kept", "same")
        put(f"{roi}.ROIDescription", f"drawn for {person.given} {person.family}", "removed", "nowhere")
        seen = f"RTROIObservationsSequence[{number}]"
        put(f"{seen}.ROIInterpreter", f"{person.tokens['operator']}^P", "removed", "nowhere")
    outline = "ROIContourSequence[0].ContourSequence[0]"
    put(f"{outline}.ContourGeometricType", "CLOSED_PLANAR", "kept", "same")
    put(f"{outline}.ContourData", ["0", "0", "-97", "8", "0", "-97", "8", "8", "-97"], "kept", "same")
    return [*slices, made]


def _directory(person: Person, uids: Uids) -> Thing:
    directory = objects.item(FileSetID="SALTHAVEN")
    directory.file_meta = empty_meta()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = uids()
    directory.DirectoryRecordSequence = [
        objects.item(
            DirectoryRecordType="PATIENT", PatientName=person.written_name, PatientID=person.patient_id
        )
    ]
    return Thing("broken/DICOMDIR", "26", person, directory, "rejected", "none")
