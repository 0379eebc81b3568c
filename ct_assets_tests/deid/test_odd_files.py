"""Files whose bytes and header disagree: read as they are meant, or held by a reason that is true."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.dicomfile import NotReadableError
from ct_assets.deid.batch.gather import Gathered, facts_of
from ct_assets.deid.elements import vrs
from ct_assets_tests.deid.made import Deidentified, as_bytes, ct, item, save
from ct_assets_tests.deid.runs import run

STRAY = b"Quenneville 4471093 behind the data set"


def reason(content: bytes) -> str:
    with pytest.raises(NotReadableError) as refused:
        dicomfile.read(content)
    return refused.value.code


def body_of(content: bytes) -> tuple[bytes, bytes]:
    """Return file meta and data set of a file that was written with a group length."""
    start = 144 + struct.unpack("<L", content[140:144])[0]
    return content[:start], content[start:]


def says(content: bytes, syntax: str) -> bytes:
    """Return the file with the file meta of another transfer syntax."""
    return body_of(as_bytes(ct(), syntax))[0] + body_of(content)[1]


def packed_as_zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("a.dcm", content)
    return buffer.getvalue()


def packed_as_tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        entry = tarfile.TarInfo("a.dcm")
        entry.size = len(content)
        opened.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "pack",
    [
        packed_as_zip, packed_as_tar, gzip.compress, bz2.compress, lzma.compress,
        lambda content: b"7z\xbc\xaf\x27\x1c" + content, lambda content: b"Rar!\x1a\x07\0" + content,
        lambda content: b"\x28\xb5\x2f\xfd" + content,
    ],
)  # fmt: skip
def test_a_packed_file_is_said_to_be_an_archive(pack):
    assert reason(pack(as_bytes(ct()))) == "archive"


def test_a_preamble_like_an_archive_does_not_make_dicom_one():
    content = as_bytes(ct())
    assert dicomfile.read(b"PK\x03\x04" + content[4:]).dataset.PatientID == "QX4471093"


@pytest.mark.parametrize(
    "content", [b"", b"plain text of no kind", b"%PDF-1.4 x" * 20, b"\x89PNG\r\n\x1a\n" * 30]
)
def test_what_is_neither_says_so(content):
    assert reason(content) == ("not_dicom" if content else "empty_file")


class TestDeflated:
    def deflated(self, body: bytes) -> bytes:
        return body_of(as_bytes(ct(), DeflatedExplicitVRLittleEndian))[0] + body

    def inner(self) -> bytes:
        return body_of(as_bytes(ct()))[1]

    @pytest.mark.parametrize("pack", [zlib.compress, lambda body: gzip.compress(body, mtime=0)])
    @pytest.mark.parametrize("behind", [b"", b"\0", STRAY])
    def test_a_header_of_zlib_or_gzip_is_read(self, pack, behind):
        source = dicomfile.read(self.deflated(pack(self.inner()) + behind))
        assert source.dataset.PixelData == ct().PixelData

    def test_what_is_cut_off_is_truncated(self):
        packer = zlib.compressobj(wbits=-15)
        content = packer.compress(self.inner()) + packer.flush()
        assert reason(self.deflated(content[:-20])) == "truncated"
        assert reason(self.deflated(zlib.compress(self.inner())[:-40])) == "truncated"

    def test_what_is_no_deflate_is_damaged(self):
        assert reason(self.deflated(b"\xff" * 200)) == "damaged_deflate"


class TestByteOrder:
    @pytest.mark.parametrize(
        ("written", "stated"),
        [
            (ExplicitVRLittleEndian, ExplicitVRBigEndian),
            (ImplicitVRLittleEndian, ExplicitVRBigEndian),
            (ExplicitVRBigEndian, ExplicitVRLittleEndian),
            (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
            (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        ],
    )
    def test_the_bytes_decide_and_the_output_says_what_it_is(self, written, stated):
        result = Deidentified(says(as_bytes(ct(), written), stated))
        assert result.dataset.Rows == 8
        assert result.dataset.PixelData == ct().PixelData
        assert result.dataset.StudyDate != "20200117"


class TestVRsThatAreNone:
    NAME = b"\x10\x00\x10\x00PN\x14\x00Quenneville^Ottoline"

    @pytest.mark.parametrize("vr", [b"  ", b"\0\0", b"??", b"pn", b"XX"])
    def test_the_dictionary_tells_it(self, vr):
        content = as_bytes(ct())
        assert content.count(self.NAME) == 1
        changed = content.replace(self.NAME, self.NAME.replace(b"PN", vr))
        result = Deidentified(changed)
        assert result.dataset.PatientName == result.person.pseudonym
        assert result.dataset.PixelData == ct().PixelData

    def test_of_the_long_form_too(self):
        content = as_bytes(ct())
        long_form = b"\x10\x00\x10\x00??\0\0\x14\0\0\0Quenneville^Ottoline"
        result = Deidentified(content.replace(self.NAME, long_form))
        assert result.dataset.PatientName == result.person.pseudonym


class TestBytesBehindTheDataSet:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    @pytest.mark.parametrize("behind", [STRAY, b"x", b"\r\n", b"\0" * 64, b"\xff" * 30, STRAY * 50])
    def test_are_left_out_behind_pixels(self, syntax, behind):
        source = dicomfile.read(as_bytes(ct(), syntax) + behind)
        assert source.dataset.PixelData == ct().PixelData
        assert not any(STRAY[-15:] in (element.value or b"") for element in source.dataset._dict.values())

    def test_without_pixels_they_hold_the_file_by_a_true_reason(self):
        assert reason(as_bytes(ct(PixelData=None)) + STRAY) == "stray_bytes"

    @pytest.mark.parametrize("cut", [1, 50, 127, 135])
    def test_a_file_that_is_cut_off_is_truncated(self, cut):
        assert reason(as_bytes(ct())[:-cut]) == "truncated"

    def test_elements_behind_the_pixels_are_read(self):
        made = ct(DataSetTrailingPadding=b"\0" * 20)
        assert len(dicomfile.read(as_bytes(made)).dataset.DataSetTrailingPadding) == 20


def written_as(keyword: str, vr: str, value: object, **more: object) -> Deidentified:
    """De-identify an object whose attribute has another VR than the dictionary's."""
    made = ct(**{keyword: None}, **more)
    made.add_new(tag_for_keyword(keyword), vr, value)
    return Deidentified(as_bytes(made))


class TestVRsOfTheDictionary:
    @pytest.mark.parametrize("vr", ["OB", "LT", "SH", "UC"])
    def test_a_patient_id_is_a_lo(self, vr):
        value = b"QX4471093 " if vr == "OB" else "QX4471093"
        result = written_as("PatientID", vr, value)
        assert (result.dataset["PatientID"].VR, result.dataset.PatientID) == ("LO", result.person.pseudonym)

    @pytest.mark.parametrize("vr", ["LO", "SH", "DT", "OB"])
    def test_a_study_date_is_shifted_as_a_da(self, vr):
        value = b"20200117" if vr == "OB" else "20200117"
        result = written_as("StudyDate", vr, value, SeriesDate="20200117")
        assert result.dataset["StudyDate"].VR == "DA"
        assert result.dataset.StudyDate == result.dataset.SeriesDate != "20200117"

    @pytest.mark.parametrize("vr", ["LO", "OB", "SH"])
    def test_a_uid_is_replaced(self, vr):
        old = "1.2.826.0.1.3680043.99.7"
        result = written_as("FrameOfReferenceUID", vr, old.encode() if vr == "OB" else old)
        assert result.dataset["FrameOfReferenceUID"].VR == "UI"
        assert result.dataset.FrameOfReferenceUID.startswith("2.25.")

    @pytest.mark.parametrize(("vr", "value"), [("UL", 8), ("SS", 8), ("IS", "8"), ("DS", "8.0"), ("LO", "8")])
    def test_rows_are_a_us(self, vr, value):
        result = written_as("Rows", vr, value)
        assert (result.dataset["Rows"].VR, result.dataset.Rows) == ("US", 8)

    @pytest.mark.parametrize(("vr", "value"), [("LO", "Quenneville"), ("UL", 70000), ("DS", "2.5")])
    def test_what_can_be_no_number_of_that_kind_goes(self, vr, value):
        result = written_as("Columns", vr, value)
        assert result.dataset["Columns"].VR == "US"
        assert result.dataset.Columns is None

    def test_numbers_where_a_text_belongs_are_written_as_one(self):
        assert written_as("InstanceNumber", "US", 12).dataset.InstanceNumber == 12
        assert written_as("SliceThickness", "FD", 1.25).dataset.SliceThickness == 1.25

    def test_a_sequence_where_a_text_belongs_goes(self):
        result = written_as("StationName", "SQ", Sequence([item(PatientComments="Quenneville")]))
        assert not result.dataset.get("StationName")

    def test_several_vrs_in_the_dictionary_leave_the_choice_to_the_file(self):
        assert vrs.vr_of(0x00280106) is None
        assert vrs.contradicted(0x00280106, "SS") is None
        assert vrs.contradicted(0x00091001, "LO") is None


def nested(depth: int, *, undefined: bool) -> Dataset:
    made = item(SliceThickness="2.5")
    for _ in range(depth):
        made = item(ReferencedImageSequence=Sequence([made]))
        made["ReferencedImageSequence"].is_undefined_length = undefined
    return made


class TestDepth:
    @pytest.mark.parametrize("undefined", [True, False])
    def test_what_is_kept_is_stated(self, undefined):
        for depth, code in ((60, None), (80, "nested_too_deep")):
            made = ct(SourceImageSequence=Sequence([nested(depth, undefined=undefined)]))
            gathered = Gathered()
            facts_of("x", as_bytes(made), gathered)
            assert gathered.files[0].code == code


def test_retired_classes_are_said_to_be_retired(tmp_path: Path):
    for number, tail in enumerate(("3", "6", "12.3", "999999")):
        made = ct(
            SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{tail}", SOPInstanceUID=f"1.2.3.{number + 1}", Modality="US"
        )
        save(made, tmp_path / f"in/{number}")
    assert run(tmp_path / "in", tmp_path / "out").summary.reasons == {
        "retired_sop_class": 3,
        "unknown_sop_class": 1,
    }
