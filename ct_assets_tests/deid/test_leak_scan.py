"""The leak scan against leaks planted by hand into a released object, each in another place or encoding."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from ct_assets.deid.elements.identifiers import Identifiers
from ct_assets.deid.proof.leak_scan import LeakScanner, Searched, elements, pixel_digest_of
from ct_assets_tests.deid.made import KEY, as_bytes, ct, item, sequence

OWNER = "PBCDF"
OLD_UID = "1.2.826.0.1.3680043.99.1.1"


@pytest.fixture(scope="module")
def scanner():
    identifiers = Identifiers()
    for kind, value in (
        ("name", "Größenwald^Jürgen"), ("name", "Quenneville^Ottoline"), ("name", "Rose^Ann"),
        ("id", "QX4471093"), ("id", "00731946"), ("id", "01632 960186"), ("birth_date", "19610417"),
    ):  # fmt: skip
        identifiers.add(kind, value, OWNER)
    births = {owner: frozenset(dates) for owner, dates in identifiers.births.items()}
    return LeakScanner(Searched(identifiers.searched(), frozenset({OLD_UID}), births), KEY)


def clean(**values: object) -> Dataset:
    """Return what a released object looks like, with something planted."""
    made = ct(
        PatientName="PBCDF", PatientID="PBCDF", PatientBirthDate="", AccessionNumber="", StudyID="",
        ReferringPhysicianName="", IssuerOfPatientID=None, StudyDate="20180101", SOPInstanceUID="2.25.1",
        StudyInstanceUID="2.25.2", SeriesInstanceUID="2.25.3", FrameOfReferenceUID="2.25.4",
    )  # fmt: skip
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def hits(scanner, content, pixel_digest=None):
    return scanner.file(content, "object", OWNER, pixel_digest)


def digest(made: Dataset) -> str:
    return pixel_digest_of(made.PixelData, KEY)


def private(value: bytes) -> Dataset:
    made = clean()
    made.add_new(0x00290010, "LO", "ACME")
    made.add_new(0x00291010, "OB", value)
    return made


PLANTED = {
    "a name in a description": clean(StudyDescription="CT QUENNEVILLE"),
    "a name in UTF-8": clean(SpecificCharacterSet="ISO_IR 192", StudyDescription="CT Größenwald"),
    "a name in Latin 1, upper case": clean(SpecificCharacterSet="ISO_IR 100", ImageComments="GRÖßENWALD"),
    "a name in UTF-16 inside binary": private(b"\1\2\3\4" + "Quenneville".encode("utf-16-le")),
    "a name in big-endian UTF-16": private(b"\1" + "Quenneville".encode("utf-16-be") + b"\0"),
    "an ID deep in a sequence": clean(
        SharedFunctionalGroupsSequence=sequence(FrameContentSequence=sequence(FrameComments="see QX4471093"))
    ),
    "a telephone number": clean(ImageComments="call 01632-960186"),
    "a birth date in its element": clean(PatientBirthDate="19610417"),
    "a birth date in a text": clean(ImageComments="born 17.04.1961"),
    "an old UID": clean(StudyInstanceUID=OLD_UID),
    "an old UID in a text": clean(ImageComments=f"derived from {OLD_UID}.dcm"),
    "a number as integer string": clean(AcquisitionNumber="00731946"),
    "a first and last name that are short": clean(ImageComments="ann, rose"),
}


class TestAPlantedLeak:
    @pytest.mark.parametrize("where", PLANTED)
    def test_is_found(self, scanner, where):
        made = PLANTED[where]
        assert hits(scanner, as_bytes(made), digest(made)), where

    @pytest.mark.parametrize("where", ["a name in a description", "an ID deep in a sequence", "an old UID"])
    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, "1.2.840.10008.1.2.1.99"]
    )
    def test_is_found_in_every_transfer_syntax(self, scanner, where, syntax):
        made = PLANTED[where]
        assert hits(scanner, as_bytes(made, syntax), None)

    def test_is_found_in_pixels_that_are_not_the_sources(self, scanner):
        made = clean()
        source = digest(made)
        pixels = bytearray(made.PixelData)
        pixels[20:31] = b"Quenneville"
        made.PixelData = bytes(pixels)
        assert hits(scanner, as_bytes(made), source)

    def test_is_found_in_the_preamble_and_the_file_meta(self, scanner):
        content = bytearray(as_bytes(clean()))
        content[:11] = b"Quenneville"
        assert hits(scanner, bytes(content))
        meta = as_bytes(clean(), SourceApplicationEntityTitle="QUENNEVILLE")
        assert hits(scanner, meta)

    def test_is_found_in_names_and_audits_and_pages(self, scanner):
        assert scanner.name("PBCDF/2.25.1/quenneville.dcm")
        assert scanner.name(f"PBCDF/{OLD_UID}/2.25.1.dcm")
        assert scanner.audit(b'{"path":"PatientName","rule":"E.1-1 Z","action":"Quenneville"}\n', "audit")
        assert scanner.audit(b'{"path":"(0029,1010) QUENNEVILLE","rule":"x","action":"kept"}\n', "audit")
        assert scanner.text(b"<td>J. Gr\xc3\xb6\xc3\x9fenwald</td>", "page")

    def test_is_told_by_place_and_keyed_digest_never_by_value(self, scanner):
        (hit, *_) = hits(scanner, as_bytes(PLANTED["an ID deep in a sequence"]))
        assert hit.element == "(52009229)[0](00209111)[0](00209158)"
        assert "4471093" not in str(hit)
        assert hit.digest == hits(scanner, as_bytes(clean(ImageComments="QX4471093")))[0].digest


class TestWhatIsNoLeak:
    def test_a_clean_object(self, scanner):
        made = clean()
        assert hits(scanner, as_bytes(made), digest(made)) == []

    @pytest.mark.parametrize(
        "values",
        [
            {"StudyTime": "007319"},
            {"AcquisitionNumber": "170073194"},
            {"SliceLocation": "1.00731946"},
            {"ImageComments": "1.2.00731946.4.5"},
            {"ImageComments": "primrose"},
            {"StudyDate": "19611704"},
        ],
    )
    def test_numbers_inside_numbers_times_and_words(self, scanner, values):
        made = clean()
        for keyword, value in values.items():
            made[keyword] = DataElement(
                keyword, (made.get(keyword) and made[keyword].VR) or _vr(keyword), value
            )
        assert hits(scanner, as_bytes(made), digest(made)) == []

    def test_another_patients_birth_date_as_a_study_date(self, scanner):
        made = clean(StudyDate="19610417")
        content = as_bytes(made)
        assert scanner.file(content, "object", "someone else", digest(made)) == []
        assert hits(scanner, content, digest(made))

    def test_short_names_by_chance_in_binary_numbers(self, scanner):
        made = clean()
        made.add_new(0x00281201, "OW", b"\0\1ROSE\0\1")
        assert hits(scanner, as_bytes(made), digest(made)) == []

    def test_the_standards_keywords_whatever_a_patient_is_called(self):
        identifiers = Identifiers()
        identifiers.add("name", "Gantry^Collimator", "P")
        scanner = LeakScanner(Searched(identifiers.searched()), KEY)
        assert scanner.audit(b'{"path":"GantryID","rule":"E.1-1 X","action":"removed"}', "audit") == []

    def test_our_own_words_in_our_own_texts_only(self):
        identifiers = Identifiers()
        identifiers.add("name", "Refer^Quenneville", OWNER)
        scanner = LeakScanner(Searched(identifiers.searched(), own_words=frozenset({"refer"})), KEY)
        assert scanner.text(b"<p>objects refer to</p>", "page") == []
        assert scanner.text(b"<p>Refer Quenneville</p>", "page") != []
        assert hits(scanner, as_bytes(clean(StudyDescription="CT QUENNEVILLE"))) != []


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_its_own_parser_sees_what_pydicom_sees(syntax):
    made = clean(
        RequestAttributesSequence=sequence(ScheduledProcedureStepID="A", CodeMeaning="B"),
        ReferencedImageSequence=[
            item(ReferencedSOPInstanceUID="2.25.9"),
            item(ReferencedSOPInstanceUID="2.25.8"),
        ],
    )
    content = as_bytes(made, syntax)
    # defined lengths, as the engine writes them
    source = pydicom.dcmread(BytesIO(content))
    seen = [tag for _, tag, _, _ in elements(content) if tag >> 16 > 2]
    assert seen == [int(element.tag) for element in source.iterall() if element.VR != "SQ"]
    assert np.frombuffer(source.PixelData, np.uint16).shape == (64,)


def _vr(keyword: str) -> str:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    return dictionary_VR(tag_for_keyword(keyword))
