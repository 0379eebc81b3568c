"""Hard cases 1 to 17 but those of text: sequences, UIDs, dates, people, types, private elements, old groups."""

import struct

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from ct_assets_tests.deid.corpus import objects
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People
from ct_assets_tests.deid.corpus.things import Thing


def sequences_that_no_table_lists(people: People, uids: Uids) -> list[Thing]:
    """1, 2, 6, 11: identifiers in functional groups and anatomic region; every reference of a SEG; SEG first."""
    person = people.person()
    header = objects.study(person, uids)
    slices = objects.ct_series("2", "b_ct_after_its_seg", person, header, uids)
    seg = objects.segmentation("1", "a_seg_before_its_ct/seg.dcm", person, slices, uids)
    shared = "SharedFunctionalGroupsSequence[0]"
    seg.put(f"{shared}.PatientID", person.patient_id, "removed", "nowhere")
    seg.put(f"{shared}.OperatorsName", person.tokens["operator"], "removed", "nowhere")
    seg.put(f"{shared}.StudyDate", "20200117", "shifted", "not_here")
    region = "SegmentSequence[0].AnatomicRegionSequence[0]"
    seg.put(f"{region}.CodeValue", "39607008", "kept", "same")
    seg.put(f"{region}.CodingSchemeDesignator", "SCT", "kept", "same")
    seg.put(f"{region}.CodeMeaning", "Lung", "kept", "same")
    seg.put(f"{region}.PatientID", person.patient_id, "removed", "nowhere")
    seg.put(f"{region}.OperatorsName", person.tokens["operator"], "removed", "nowhere")
    for slice_ in slices:
        deep = "AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0]"
        slice_.put(f"{deep}.PatientName", person.written_name, "removed", "nowhere")
        slice_.put(f"{deep}.StudyDate", "20200117", "shifted", "not_here")
    return [*slices, seg]


def file_meta(people: People, uids: Uids) -> list[Thing]:
    """3: preamble, application entity titles and private information of the file meta information."""
    person = people.person()
    header = objects.study(person, uids)
    made = objects.ct_series("3", "meta", person, header, uids, slices=2)
    for slice_ in made:
        slice_.put("SourceApplicationEntityTitle", person.tokens["station"], "removed", "nowhere")
        slice_.put("SendingApplicationEntityTitle", person.tokens["station"], "removed", "nowhere")
        slice_.put("PrivateInformationCreatorUID", uids(), "removed", "nowhere")
        secret = f"{person.family} {person.patient_id}".encode()
        slice_.put("PrivateInformation", secret + b"\0" * (len(secret) % 2), "removed", "nowhere")
        slice_.preamble = f"II*\0{person.family} {person.birth_date}".encode().ljust(128, b"\0")
    return made


def uids_of_all_kinds(people: People, uids: Uids) -> list[Thing]:
    """4, 5: several UIDs in one element; the Standard's own stay."""
    person = people.person()
    header = objects.study(person, uids)
    made = objects.ct_series("4", "uids", person, header, uids)
    for slice_ in made:
        slice_.put("FailedSOPInstanceUIDList", [uids(), uids(), uids()], "replaced", "nowhere")
        slice_.put(
            "RelatedGeneralSOPClassUID", [f"{objects.STORAGE}2", f"{objects.STORAGE}2.1"], "kept", "same"
        )
        reference = "ReferencedImageSequence[0]"
        slice_.put(f"{reference}.ReferencedSOPClassUID", f"{objects.STORAGE}2", "kept", "same")
        slice_.put(f"{reference}.ReferencedSOPInstanceUID", uids(), "replaced", "nowhere")
        code = "ProcedureCodeSequence[0]"
        slice_.put(f"{code}.CodeValue", "24627-2", "kept", "same")
        slice_.put(f"{code}.CodingSchemeDesignator", "LN", "kept", "same")
        slice_.put(f"{code}.CodeMeaning", "CT Chest", "kept", "same")
        slice_.put(f"{code}.CodingSchemeUID", "2.16.840.1.113883.6.1", "kept", "same")
    made[-1].put("FrameOfReferenceUID", "1.2.840.10008.1.4.1.1", "kept", "same")
    return made


def dates(people: People, uids: Uids) -> list[Thing]:
    """7, 8: midnight, leap day, offsets, partial and old forms of dates; one shift over all modalities."""
    person = people.person()
    header = objects.study(person, uids, study_date="20200228", study_time="235959")
    made = objects.ct_series("7", "dates/ct", person, header, uids)
    made[0].put("AcquisitionDateTime", "20200228235959.123456+0100", "shifted", "not_here")
    made[1].put("AcquisitionDateTime", "202002291200", "shifted", "not_here")
    made[2].put("AcquisitionDateTime", "202002", "shifted", "policy")
    made[0].put("ContentDate", "20200229", "shifted", "not_here")
    made[0].put("ContentTime", "000001", "kept", "policy")
    made[1].put("ContentDate", "2020.02.29", "shifted", "not_here")
    made[2].put("DateOfLastCalibration", ["20200101", "20191231"], "shifted", "not_here")
    mr = objects.thing("8", "dates/mr.dcm", person, header, "4", "MR", uids)
    mr.put("SeriesDate", "20200301", "shifted", "not_here")
    mr.put("AcquisitionDate", "20200301", "shifted", "not_here")
    mr.dataset.ScanningSequence, mr.dataset.SequenceVariant = "SE", "NONE"
    objects.image(mr, objects.pictures.body(64, 64, 8))
    return [*made, mr]


def one_id_many_ways(people: People, uids: Uids) -> list[Thing]:
    """9: blanks and case are the same person, another issuer is another, no PatientID is nobody's."""
    person = people.person(patient_id="Hx0044170")
    made: list[Thing] = []
    for number, spelling in enumerate(("Hx0044170", " HX0044170 ", "hx0044170")):
        here = people.person(
            **{**_facts(person), "patient_id": spelling, "key": person.key, "tokens": person.tokens}
        )
        made += objects.ct_series("9", f"spelling_{number}", here, objects.study(here, uids), uids, slices=1)
    elsewhere = people.person(patient_id="Hx0044170", issuer="OTHERTOWN-PAS", key="Hx0044170@OTHERTOWN-PAS")
    made += objects.ct_series("9", "other_issuer", elsewhere, objects.study(elsewhere, uids), uids, slices=1)
    nameless = people.person(patient_id="", key="nobody")
    lost = objects.ct_series("9", "no_id", nameless, objects.study(nameless, uids), uids, slices=1)
    for slice_ in lost:
        slice_.expected, slice_.marks = "quarantined or rejected", []
    return [*made, *lost]


def very_old(people: People, uids: Uids) -> list[Thing]:
    """10: an age above 89 is not revealed, in years or months."""
    made = []
    for number, age in enumerate(("093Y", "104Y")):
        person = people.person(age=age, birth_date=f"19{27 - 11 * number}0412")
        slices = objects.ct_series("10", f"old_{number}", person, objects.study(person, uids), uids, slices=1)
        for slice_ in slices:
            slice_.mark("00101010", "replaced", "not_here")
        made += slices
    return made


def types_and_dummies(people: People, uids: Uids) -> list[Thing]:
    """11, 12: elements that may not be empty, of many value representations, and identifying codes."""
    person = people.person()
    made = objects.ct_series("12", "types", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        physician = "ReferringPhysicianIdentificationSequence[0]"
        code = f"{physician}.PersonIdentificationCodeSequence[0]"
        slice_.put(f"{code}.CodeValue", person.tokens["visit id"], "removed", "nowhere")
        slice_.put(f"{code}.CodingSchemeDesignator", "99SALT", "removed", "policy")
        slice_.put(f"{code}.CodeMeaning", person.tokens["physician"], "removed", "nowhere")
        slice_.put(f"{physician}.InstitutionName", person.tokens["institution"], "removed", "nowhere")
        slice_.put("DigitalSignaturesSequence[0].MACIDNumber", 1, "removed", "policy")
        slice_.put("RetrieveURI", f"https://pacs.example/{person.patient_id}", "removed", "nowhere")
        slice_.put("PatientAge", "045Y", "kept", "same")
        slice_.put("Allergies", f"none known to {person.tokens['physician']}", "removed", "nowhere")
    return made


def private_blocks(people: People, uids: Uids) -> list[Thing]:
    """13, 15: a safe block at another number, an unsafe one in its place, and elements of nobody."""
    person = people.person()
    made = objects.ct_series("13", "private", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        slice_.private(
            "SALT EXPORT 1", 0x7053, 0x00, "LO", f"{person.family} {person.patient_id}", "nowhere", 0x10
        )
        slice_.private("SALT EXPORT 1", 0x7053, 0x09, "LO", person.tokens["phone"], "nowhere", 0x10)
        slice_.private("Philips PET Private Group", 0x7053, 0x00, "DS", "1.2345", "same", 0x11)
        slice_.private("ELSCINT1", 0x00E1, 0x21, "DS", "412.5", "same", 0x12)
        slice_.private("ELSCINT1", 0x00E1, 0x22, "LO", person.tokens["accession number"], "nowhere", 0x12)
        slice_.dataset.add_new(0x00411001, "LO", f"{person.family} {person.tokens['phone']}")
        slice_.mark("00411001", "removed", "nowhere")
    return made


def private_sequences(people: People, uids: Uids) -> list[Thing]:
    """14: a private sequence that reads as UN, names in binary blobs in several encodings."""
    person = people.person()
    made = objects.ct_series("14", "private_sq", person, objects.study(person, uids), uids, slices=2)
    name = person.family
    blob = b"SV10\4\3\2\1" + struct.pack("<II", 2, 77) + b"PatientName\0" + name.encode().ljust(64, b"\0")
    wide = (
        b"\1\2\3\4" + name.encode("utf-16-le") + b"\0\0" + person.patient_id.encode("utf-16-be") + b"\xff\xff"
    )
    for slice_ in made:
        slice_.dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        inner = Dataset()
        inner.add_new(0x00291042, "LO", f"REPORT {name}")
        inner.add_new(0x00100020, "LO", person.patient_id)
        slice_.private("SIEMENS MEDCOM HEADER", 0x0029, 0x40, "SQ", [inner], "nowhere", 0x11)
        slice_.private("SIEMENS CSA HEADER", 0x0029, 0x10, "OB", blob, "nowhere")
        slice_.private("SIEMENS CSA HEADER", 0x0029, 0x20, "OB", wide, "nowhere")
        slice_.private("SALT CLOCK", 0x0019, 0x27, "SL", -782956800, "nowhere")
        slice_.marks = [mark for mark in slice_.marks if mark[0] not in ("00291140", "00191027")]
        slice_.mark("00291140[0].00291042", "removed", "nowhere")
    return made


def old_groups(people: People, uids: Uids) -> list[Thing]:
    """16, 17: overlays, curves, icons, earlier values, signatures."""
    person = people.person()
    made = objects.ct_series("16", "groups", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        for group in (0x6000, 0x6002, 0x601E):
            slice_.dataset.add_new(group << 16 | 0x10, "US", 64)
            slice_.dataset.add_new(group << 16 | 0x11, "US", 64)
            slice_.dataset.add_new(group << 16 | 0x40, "CS", "G")
            slice_.dataset.add_new(group << 16 | 0x50, "SS", [1, 1])
            slice_.dataset.add_new(group << 16 | 0x100, "US", 1)
            slice_.dataset.add_new(group << 16 | 0x102, "US", 0)
            slice_.dataset.add_new(group << 16 | 0x1500, "LO", person.family)
            slice_.dataset.add_new(group << 16 | 0x3000, "OW", bytes(512))
            slice_.mark(f"{group << 16 | 0x1500:08X}", "removed", "nowhere")
            slice_.mark(f"{group << 16 | 0x3000:08X}", "removed", "not_here")
        slice_.dataset.add_new(0x50000030, "SH", person.family[:12])
        slice_.mark("50000030", "removed", "not_here")
        icon = "IconImageSequence[0]"
        slice_.put(f"{icon}.Rows", 4, "removed", "not_here")
        slice_.put(f"{icon}.PixelData", bytes(range(16)), "removed", "not_here", vr="OB")
        changed = "OriginalAttributesSequence[0]"
        slice_.put(f"{changed}.SourceOfPreviousValues", person.tokens["institution"], "removed", "nowhere")
        slice_.put(f"{changed}.ModifyingSystem", person.tokens["station"], "removed", "nowhere")
        slice_.put(f"{changed}.AttributeModificationDateTime", "20200118101010", "removed", "not_here")
        before = f"{changed}.ModifiedAttributesSequence[0]"
        slice_.put(f"{before}.PatientName", person.written_name, "removed", "nowhere")
        slice_.put(f"{before}.PatientID", person.patient_id, "removed", "nowhere")
        slice_.put(f"{before}.OtherPatientNames", person.tokens["birth name"], "removed", "nowhere")
        slice_.put("MACParametersSequence[0].MACIDNumber", 1, "removed", "policy")
        signature = "DigitalSignaturesSequence[0]"
        slice_.put(f"{signature}.DigitalSignatureUID", uids(), "removed", "nowhere")
        slice_.put(f"{signature}.Signature", person.family.encode().ljust(32, b"\0"), "removed", "nowhere")
    return made


def _facts(person: object) -> dict[str, object]:
    return {name: getattr(person, name) for name in ("family", "given", "issuer", "birth_date", "sex", "age")}
