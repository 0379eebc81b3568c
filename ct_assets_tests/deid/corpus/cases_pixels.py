"""Hard cases 20, 21, 22 and 24: text in pixels and what looks like it, untouched pixels, heads."""

import io

import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from ct_assets_tests.deid.corpus import objects, pictures
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People, Person
from ct_assets_tests.deid.corpus.things import Thing


def text_in_pixels(people: People, uids: Uids) -> list[Thing]:
    """20: text where the header denies it; dose page; scouts; reports; documents."""
    person = people.person()
    header = objects.study(person, uids)
    lines = [f"{person.family.upper()}, {person.given}", f"{person.patient_id}  {person.birth_date}"]

    def made(path: str, sop_class: str, modality: str, expected: str) -> Thing:
        thing = objects.thing("20", f"pixels/{path}", person, header, sop_class, modality, uids)
        thing.expected = expected
        return thing

    denied = made("us_denied", "6.1", "US", "quarantined")
    denied.dataset.BurnedInAnnotation = "NO"
    objects.image(denied, pictures.with_text(pictures.fan(240, 320, 1), lines))
    silent = made("us_clean", "6.1", "US", "released")
    objects.image(silent, pictures.fan(240, 320, 2))
    declared = made("us_declared", "6.1", "US", "quarantined")
    declared.dataset.BurnedInAnnotation = "YES"
    objects.image(declared, pictures.fan(240, 320, 3))
    dose = made("dose_page", "7", "CT", "quarantined")
    dose.dataset.ImageType, dose.dataset.SeriesDescription = ["DERIVED", "SECONDARY", "OTHER"], "Dose Report"
    dose.dataset.ConversionType = "WSD"
    objects.image(dose, pictures.page(240, 320, [*lines, "Total DLP 412 mGycm"]))
    unnamed_page = made("protocol_page", "7", "CT", "quarantined")
    unnamed_page.dataset.ImageType = ["DERIVED", "SECONDARY"]
    objects.image(unnamed_page, pictures.page(240, 320, [*lines, "CTDIvol 7.1"]))
    scout = _scout(made("scout", "2", "CT", "released"), header, pictures.scout(180, 320, 4))
    named_scout = _scout(
        made("scout_with_name", "2", "CT", "quarantined"),
        header,
        pictures.with_text(pictures.scout(180, 320, 5), lines),
    )
    slice_with_text = objects.ct_slice(
        "20", "pixels/slice_with_name", person, header, uids,
        pixels=pictures.with_text(pictures.body(256, 256, 6), lines[:1]),
    )  # fmt: skip
    slice_with_text.expected = "quarantined"
    report = made("report", "88.11", "SR", "quarantined")
    _report(report, person)
    document = made("letter.pdf", "104.1", "DOC", "quarantined")
    document.dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.dataset.EncapsulatedDocument = (
        b"%PDF-1.4 " + person.family.encode() + b" " * (len(person.family) % 2 + 1)
    )
    unknown = made("unknown_class", "6.1", "OT", "quarantined")
    unknown.dataset.SOPClassUID = "1.3.6.1.4.1.99999.5.1"
    objects.image(unknown, pictures.fan(120, 160, 7))
    return [
        denied, silent, declared, dose, unnamed_page, scout, named_scout, slice_with_text, report, document, unknown,
    ]  # fmt: skip


def many_frames_and_colours(people: People, uids: Uids) -> list[Thing]:
    """21: text on one frame of several; colour by pixel and by plane; photographs without text."""
    person = people.person()
    header = objects.study(person, uids)
    lines = [f"{person.family.upper()}^{person.given.upper()}", person.patient_id]
    frames = np.stack([pictures.fan(160, 240, number) for number in range(4)])
    one = frames.copy()
    one[2] = pictures.with_text(one[2], lines)
    made = []
    for path, pixels, expected in (("one_frame", one, "quarantined"), ("no_frame", frames, "released")):
        thing = objects.thing("21", f"frames/{path}", person, header, "3.1", "US", uids)
        thing.expected = expected
        thing.dataset.FrameTime = "40"
        made.append(objects.image(thing, pixels))
    photo = pictures.photograph(160, 240, 3)
    for planar in (0, 1):
        for named in (False, True):
            path = f"frames/rgb_{planar}_{'named' if named else 'clean'}"
            thing = objects.thing("21", path, person, header, "7", "OT", uids)
            thing.dataset.ConversionType = "DI"
            thing.expected = "quarantined" if named else "released"
            pixels = pictures.with_text(photo, lines) if named else photo
            made.append(objects.image(thing, pixels, photometric="RGB", planar=planar))
    return made


def untouched_pixels(people: People, uids: Uids) -> list[Thing]:
    """22: pixels in several transfer syntaxes come out byte for byte, fragments included."""
    person = people.person()
    header = objects.study(person, uids)
    made = []
    for syntax, folder in ((RLELossless, "rle"), (JPEGLSLossless, "jpegls")):
        for slice_ in objects.ct_series("22", f"coded/{folder}", person, header, uids, slices=2):
            slice_.dataset.compress(syntax, generate_instance_uid=False)
            made.append(slice_)
    photo = objects.thing("22", "coded/photo.jpg", person, header, "7", "OT", uids)
    picture = pictures.photograph(120, 160, 9)
    objects.image(photo, picture, photometric="RGB")
    photo.dataset.PhotometricInterpretation = "YBR_FULL_422"
    photo.dataset.ConversionType = "DI"
    photo.dataset.LossyImageCompression = "01"
    coded = io.BytesIO()
    Image.fromarray(picture).save(coded, "JPEG", quality=90)
    stream = coded.getvalue()
    cut = len(stream) // 4 * 2
    photo.dataset.PixelData = encapsulate([stream], fragments_per_frame=2 if cut else 1)
    photo.dataset["PixelData"].VR = "OB"
    photo.dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return [*made, photo]


def heads(people: People, uids: Uids) -> list[Thing]:
    """24: a head CT is released with a flag; nobody claims that its face was removed."""
    person = people.person()
    made = objects.ct_series("24", "head", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        slice_.put("BodyPartExamined", "HEAD", "kept", "same")
    return made


def _scout(thing: Thing, header: object, pixels: np.ndarray) -> Thing:
    thing.dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    thing.dataset.FrameOfReferenceUID = header.FrameOfReferenceUID  # type: ignore[attr-defined]
    thing.dataset.ImagePositionPatient = ["0", "0", "0"]
    thing.dataset.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    thing.dataset.PixelSpacing = ["1", "1"]
    thing.dataset.RescaleIntercept, thing.dataset.RescaleSlope = "0", "1"
    return objects.image(thing, pixels)


def _report(thing: Thing, person: Person) -> None:
    """A report whose text names the patient."""
    content = objects.item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[
            objects.item(CodeValue="121071", CodingSchemeDesignator="DCM", CodeMeaning="Finding")
        ],
        TextValue=f"{person.given} {person.family} has a nodule in the left upper lobe.",
    )
    thing.dataset.ValueType, thing.dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    thing.dataset.CompletionFlag, thing.dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    thing.dataset.ConceptNameCodeSequence = [
        objects.item(CodeValue="126000", CodingSchemeDesignator="DCM", CodeMeaning="Imaging Report")
    ]
    thing.dataset.ContentSequence = [content]
    thing.pixels = "none"
