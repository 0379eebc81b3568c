"""Values whose VR was lost or is another than it should be: sequences as UN, safe private values."""

import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ct_assets.deid.batch.gather import Gathered, facts_of
from ct_assets.dicom import unknown_sequences
from ct_assets.identity.uids import new_uid
from ct_assets_tests.deid.made import KEY, Deidentified, as_bytes, ct, deid, item, sequence

REGION = 0x00082218
"""AnatomicRegionSequence."""


def encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    """Return an item of defined length."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    content = buffer.getvalue()
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def region(**more: object) -> Dataset:
    return item(
        CodeValue="T-28000",
        CodingSchemeDesignator="SRT",
        PatientName="Krambauer^Xenia",
        ReferencedSOPInstanceUID="1.2.999.4471.5",
        **more,
    )


def with_un(value: bytes, tag: int = REGION) -> bytes:
    """An Explicit VR file with one element of VR UN before PatientName."""
    content = as_bytes(ct())
    at = content.index(struct.pack("<HH", 0x10, 0x10))
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"UN", 0, len(value))
    return content[:at] + head + value + content[at:]


class TestASequenceAsUn:
    @pytest.mark.parametrize("implicit", [True, False])
    def test_each_element_of_its_items_follows_its_own_rule(self, implicit):
        inner = region(ReferencedImageSequence=sequence(ReferencedSOPInstanceUID="1.2.999.4471.6"))
        value = encoded(inner, implicit=implicit) + encoded(region(), implicit=implicit)
        out = Deidentified(with_un(value))
        first, second = out.dataset[REGION].value
        assert (first.CodeValue, second.CodeValue) == ("T-28000", "T-28000")
        assert first.ReferencedSOPInstanceUID == new_uid(KEY, "1.2.999.4471.5")
        assert first.ReferencedImageSequence[0].ReferencedSOPInstanceUID == new_uid(KEY, "1.2.999.4471.6")
        assert b"Krambauer" not in out.content

    def test_of_undefined_length_with_explicit_items_is_read_too(self):
        value = encoded(region(), implicit=False) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        content = with_un(value).replace(b"UN\0\0" + struct.pack("<L", len(value)), b"UN\0\0\xff\xff\xff\xff")
        out = Deidentified(content)
        assert out.dataset[REGION].value[0].CodeValue == "T-28000"
        assert b"Krambauer" not in out.content

    def test_whose_items_are_cut_off_is_removed_and_the_audit_says_so(self):
        out = Deidentified(with_un(encoded(region(), implicit=False)[:-4]))
        assert b"Krambauer" not in out.content
        assert out.fates["AnatomicRegionSequence"]["action"] == "removed"

    def test_bytes_that_fit_no_reading_are_no_items(self):
        good = encoded(region(), implicit=False)
        assert unknown_sequences.items(good[:-1]) is None
        assert unknown_sequences.items(good + b"\0\0") is None
        assert unknown_sequences.items(b"") == []
        assert len(unknown_sequences.items(good * 3)) == 3


class TestASafePrivateValue:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_that_is_a_uid_is_replaced_and_in_the_uid_map(self, syntax):
        made = ct()
        made.add_new(0x00990010, "LO", "NQHeader")
        made.add_new(0x00991002, "UI", "1.3.12.2.1107.99.4471")
        content = as_bytes(made, syntax)
        gathered = Gathered()
        facts_of("x", content, gathered)
        assert "1.3.12.2.1107.99.4471" in gathered.uids
        value = Deidentified(content).dataset[0x00991002].value
        raw = value if isinstance(value, bytes) else str(value).encode()
        assert raw.strip(b"\0") == new_uid(KEY, "1.3.12.2.1107.99.4471").encode()

    @pytest.mark.parametrize(
        ("vr", "value"), [("LO", "1.5"), ("SH", "Q 17.01.2020"), ("UN", b"Q 5551234 "), ("FD", 1.5)]
    )
    def test_of_another_vr_goes(self, vr, value):
        made = ct()
        made.add_new(0x70530010, "LO", "Philips PET Private Group")
        made.add_new(0x70531000, vr, value)  # DS on the safe list
        assert 0x70531000 not in deid(made)

    def test_stored_as_un_stays_where_it_has_its_form(self):
        made = ct()
        made.add_new(0x70530010, "LO", "Philips PET Private Group")
        made.add_new(0x70531000, "UN", b"1.5 ")
        assert deid(made)[0x70531000].value in (1.5, "1.5", b"1.5 ")


class TestSignaturesAndEncryption:
    def test_go_as_a_whole_wherever_they_stand(self):
        certificate = b"0\x82O=Klinikum Nord, CN=Krambauer"
        mac = sequence(MACIDNumber=1, CertificateOfSigner=certificate, MACAlgorithm="SHA256")
        sealed = sequence(EncryptedContent=certificate)
        made = ct(
            MACParametersSequence=mac,
            EncryptedAttributesSequence=sealed,
            CertificateOfSigner=certificate,
            ReferencedImageSequence=sequence(ReferencedSOPInstanceUID="1.2.3.4", MACParametersSequence=mac),
        )
        out = Deidentified(as_bytes(made))
        assert b"Krambauer" not in out.content
        assert not [element.tag for element in out.dataset.iterall() if element.tag.group in (0x0400, 0x4FFE)]
        assert out.fates["MACParametersSequence"]["action"] == "removed"


def test_what_is_below_the_standards_root_and_unregistered_is_replaced():
    own = "1.2.840.10008.5.1.4.1.1.2.20200117.101530.4471902"
    out = deid(ct(StudyInstanceUID=own, FrameOfReferenceUID="1.2.840.10008.1.4.1.1"))
    assert out.StudyInstanceUID == new_uid(KEY, own) != own
    assert out.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    for registered in ("1.2.840.10008.6.1.35", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.2.16.4"):
        assert new_uid(KEY, registered) == registered
    for odd in ("1.2.840.10008.", "1.2.840.10008.6.1.20200117", "1.2.840.10008.5.1.4.1.1.2.1.1"):
        assert new_uid(KEY, odd) != odd
