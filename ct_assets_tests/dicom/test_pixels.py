"""Stored values: sign, unused bits, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_assets.dicom.pixels import FrameReader, PixelError, PixelFormat, clear_unused_bits

EXPLICIT = "1.2.840.10008.1.2.1"


def form(*, bits=12, high=None, signed=False, allocated=16, **others):
    values = {"transfer_syntax_uid": EXPLICIT, "rows": 2, "columns": 3} | others
    return PixelFormat(
        bits_allocated=allocated,
        bits_stored=bits,
        high_bit=bits - 1 if high is None else high,
        is_signed=signed,
        **values,
    )


class TestUnusedBits:
    @given(st.lists(st.integers(-2048, 2047), min_size=1), st.integers(0, 15))
    def test_the_stored_bits_alone_make_the_value(self, values, noise):
        """Whatever stands above Bits Stored, a signed value of twelve bits comes back."""
        written = (np.array(values) & 0x0FFF) | (noise << 12)
        got, _ = clear_unused_bits(written.astype(np.uint16).view(np.int16), form(signed=True))
        np.testing.assert_array_equal(got, values)

    @given(st.lists(st.integers(0, 4095), min_size=1))
    def test_values_that_fit_are_left_alone(self, values):
        got, warned = clear_unused_bits(np.array(values, dtype=np.uint16), form())
        np.testing.assert_array_equal(got, values)
        assert not warned

    def test_a_high_bit_above_shifts_the_value_down(self):
        got, _ = clear_unused_bits(np.array([0x1230], dtype=np.uint16), form(high=15))
        assert got.tolist() == [0x123]

    def test_sixteen_bits_have_none_to_spare(self):
        values = np.array([0xFFFF, 0x8000], dtype=np.uint16)
        assert clear_unused_bits(values, form(bits=16))[0] is values


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"samples": 3}, "not_monochrome"),
            ({"bits": 0}, "pixel_format_invalid"),
            ({"bits": 17}, "pixel_format_invalid"),
            ({"rows": 0}, "pixel_format_invalid"),
            ({"allocated": 12}, "pixel_format_invalid"),
        ],
    )
    def test_a_senseless_format_is_named(self, tmp_path, change, code):
        with pytest.raises(PixelError) as refused:
            FrameReader().read(tmp_path / "none", form(**change))
        assert refused.value.code == code

    def test_a_file_that_is_no_dicom_is_named(self, tmp_path):
        (tmp_path / "x").write_bytes(b"nothing" * 100)
        with pytest.raises(PixelError) as refused:
            FrameReader().read(tmp_path / "x", form())
        assert refused.value.code == "pixel_data_unreadable"
