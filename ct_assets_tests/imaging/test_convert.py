"""A CT series becomes a volume: exact HU, proven positions, refusals by name."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ct_assets.imaging import nifti
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.settings import Settings
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.conversion import ConversionSettings
from ct_assets_tests.imaging.ct_factory import ct_series, grouped

PLAIN = ConversionSettings()


def rotation(angles_deg):
    x, y, z = np.radians(angles_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def load(folder, audit=None, conversion=PLAIN):
    platform = Settings(audit=audit or AuditSettings())
    (series,) = [one for one in grouped(folder, platform) if one.kind == "ct"]
    return load_series(series, folder, conversion)


def refusal(folder, **kwargs):
    with pytest.raises(ConversionRefused) as refused:
        load(folder, **kwargs)
    return refused.value.reasons


class TestHounsfieldUnits:
    def test_stored_values_are_rescaled_exactly_as_int16(self, tmp_path):
        series = ct_series(slope=1, intercept=-1024)
        got = load(series.save(tmp_path)).volume.array
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, series.stored.astype(int) - 1024)

    @pytest.mark.parametrize(("slope", "intercept"), [(2, -1000), (-1, 500), (3, 0)])
    def test_other_integer_slopes_stay_int16(self, tmp_path, slope, intercept):
        series = ct_series(slope=slope, intercept=intercept)
        got = load(series.save(tmp_path)).volume.array
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, series.stored.astype(int) * slope + intercept)

    @pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1024), (1, -1024.5), (1.00001, 0)])
    def test_fractions_become_float32(self, tmp_path, slope, intercept):
        series = ct_series(slope=slope, intercept=intercept)
        got = load(series.save(tmp_path)).volume.array
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, (series.stored * slope + intercept).astype(np.float32))

    def test_values_beyond_int16_become_float32_and_are_not_wrapped(self, tmp_path):
        stored = np.zeros((6, 5, 4), dtype=int)
        stored[4, 2, 1] = 60000
        got = load(ct_series(stored=stored, intercept=0).save(tmp_path)).volume.array
        assert got.dtype == np.float32
        assert got[4, 2, 1] == 60000

    def test_each_slice_follows_its_own_slope(self, tmp_path):
        series = ct_series()
        for k, ds in enumerate(series.slices):
            ds.RescaleSlope, ds.RescaleIntercept = k + 1, -k
        converted = load(series.save(tmp_path))
        factors = np.arange(1, 7).reshape(-1, 1, 1)
        np.testing.assert_array_equal(
            converted.volume.array, series.stored.astype(int) * factors - factors + 1
        )
        assert "several_rescales" in converted.warnings

    def test_signed_values_are_read_signed(self, tmp_path):
        stored = np.full((6, 5, 4), -2000)
        stored[0, 0, 0] = 3000
        got = load(ct_series(stored=stored, signed=True, intercept=0).save(tmp_path)).volume.array
        assert (got.min(), got.max()) == (-2000, 3000)

    def test_signed_twelve_bits_without_sign_extension_are_read_signed(self, tmp_path):
        stored = np.full((6, 5, 4), 0x0FFF)  # -1 in twelve bits
        converted = load(ct_series(stored=stored, signed=True, bits=12, intercept=0).save(tmp_path))
        assert np.unique(converted.volume.array).tolist() == [-1]
        assert "unused_bits_ignored" not in converted.warnings

    def test_overlay_bits_above_the_stored_ones_are_no_pixels(self, tmp_path):
        stored = np.full((6, 5, 4), 100)
        stored[2, 1, 1] |= 0x8000
        converted = load(ct_series(stored=stored, bits=12, intercept=0).save(tmp_path))
        assert np.unique(converted.volume.array).tolist() == [100]
        assert "unused_bits_ignored" in converted.warnings

    def test_padding_is_kept_and_reported(self, tmp_path):
        stored = np.full((6, 5, 4), 1000)
        stored[:, 0, 0] = 63536  # -2000 as unsigned
        series = ct_series(stored=stored.astype(np.uint16), signed=True, intercept=0, PixelPaddingValue=-2000)
        converted = load(series.save(tmp_path))
        assert converted.volume.array[3, 0, 0] == -2000
        assert converted.facts["padding_voxels"] == 6
        assert "padding_kept" in converted.warnings

    def test_padding_becomes_air_when_asked_for(self, tmp_path):
        stored = np.full((6, 5, 4), 1000)
        stored[:, 0, 0] = -2000
        stored[:, 0, 1] = -1990
        series = ct_series(stored=stored, signed=True, intercept=0, PixelPaddingValue=-2000)
        for ds in series.slices:
            ds.PixelPaddingRangeLimit = -1980
        converted = load(series.save(tmp_path), conversion=ConversionSettings(padding="air", air_hu=-1000))
        assert converted.volume.array[:, 0, :2].ravel().tolist() == [-1000] * 12

    def test_another_rescale_type_is_refused_unless_allowed(self, tmp_path):
        folder = ct_series(RescaleType="HU_MOD").save(tmp_path)
        assert refusal(folder) == ("rescale_type_not_hu",)
        load(folder, conversion=ConversionSettings(rescale_types=("HU", "HU_MOD")))

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("unit", ["US", "hu", "Hu"])
    def test_an_unspecified_unit_is_a_warning(self, tmp_path, unit):
        converted = load(ct_series(RescaleType=unit).save(tmp_path))
        assert "rescale_type_not_hu" in converted.warnings

    def test_values_without_a_rescale_have_no_unit(self, tmp_path):
        series = ct_series()
        del series.slices[2].RescaleIntercept
        assert refusal(series.save(tmp_path)) == ("missing_rescale",)

    def test_a_modality_lut_instead_of_the_rescale_is_refused_by_a_name_of_its_own(self, tmp_path):
        series = ct_series()
        for ds in series.slices:
            del ds.RescaleSlope, ds.RescaleIntercept
            lut = Dataset()
            lut.add_new("LUTDescriptor", "US", [4096, 0, 16])
            lut.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
            lut.ModalityLUTType = "HU"
            ds.ModalityLUTSequence = [lut]
        assert refusal(series.save(tmp_path)) == ("modality_lut_instead_of_rescale",)


class TestTransferSyntaxes:
    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=str
    )
    def test_compression_changes_no_value(self, tmp_path, syntax, signed):
        stored = np.random.default_rng(1).integers(-900 if signed else 0, 2000, size=(6, 32, 48))
        series = ct_series(shape=stored.shape, stored=stored, signed=signed, intercept=0)
        for ds in series.slices:
            if syntax == ImplicitVRLittleEndian:
                ds.file_meta.TransferSyntaxUID = syntax
            else:
                ds.compress(syntax, generate_instance_uid=False)
        np.testing.assert_array_equal(load(series.save(tmp_path)).volume.array, stored)

    def test_big_endian(self, tmp_path):
        series = ct_series()
        for ds, plane in zip(series.slices, series.stored, strict=True):
            ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            ds.PixelData = plane.astype(">u2").tobytes()
            ds["PixelData"].VR = "OW"
        folder = tmp_path / "big"
        folder.mkdir()
        for k, ds in enumerate(series.slices):
            pydicom.dcmwrite(
                folder / f"{k}", ds, little_endian=False, implicit_vr=False, enforce_file_format=True
            )
        np.testing.assert_array_equal(load(folder).volume.array, series.stored.astype(int) - 1024)

    def test_deflated(self, tmp_path):
        series = ct_series()
        for ds in series.slices:
            ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        np.testing.assert_array_equal(
            load(series.save(tmp_path)).volume.array, series.stored.astype(int) - 1024
        )

    def test_a_cut_off_compressed_slice_refuses_the_series(self, tmp_path):
        series = ct_series(shape=(6, 64, 64))
        for ds in series.slices:
            ds.compress(JPEGLSLossless, generate_instance_uid=False)
        whole = series.slices[3].PixelData
        frame = next(iter(pydicom.encaps.generate_frames(whole, number_of_frames=1)))
        series.slices[3].PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
        assert refusal(series.save(tmp_path)) == ("truncated_pixel_data",)

    def test_a_cut_off_native_slice_refuses_the_series(self, tmp_path):
        folder = ct_series().save(tmp_path)
        victim = sorted(folder.iterdir())[2]
        victim.write_bytes(victim.read_bytes()[:-20])
        assert "truncated_pixel_data" in refusal(folder)


class TestPositions:
    @settings(max_examples=25, deadline=None)
    @given(
        st.tuples(*[st.floats(-180, 180)] * 3),
        st.tuples(*[st.floats(0.3, 5)] * 3),
        st.tuples(*[st.floats(-900, 900)] * 3),
        st.integers(0, 1000),
    )
    def test_every_corner_of_every_slice_lies_where_its_header_says(
        self, tmp_path_factory, angles, spacing, origin, shuffle
    ):
        folder = tmp_path_factory.mktemp("series")
        series = ct_series(direction=rotation(angles), spacing_mm=spacing, origin_mm=origin)
        series.save(folder, shuffle=shuffle)
        converted = load(folder, audit=AuditSettings(oblique="convert"))
        path = folder / "image.nii.gz"
        nifti.write(path, converted.volume)
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
        for k, one in enumerate(converted.target.stack.positions_mm):
            ds = next(d for d in series.slices if np.allclose(d.ImagePositionPatient, one, atol=1e-5))
            x, y = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
            between_rows, between_columns = (float(v) for v in ds.PixelSpacing)
            for i in (0, ds.Columns - 1):
                for j in (0, ds.Rows - 1):
                    lps = np.array(ds.ImagePositionPatient, float) + x * between_columns * i
                    lps += y * between_rows * j
                    ras = (image.affine @ [i, j, k, 1])[:3]
                    assert np.abs(ras * [-1, -1, 1] - lps).max() < 0.01
                    assert voxels[i, j, k] == int(ds.pixel_array[j, i]) - 1024

    def test_three_readers_agree_on_the_place(self, tmp_path):
        converted = load(ct_series(direction=rotation((4, -3, 6))).save(tmp_path / "dicom"))
        path = tmp_path / "image.nii.gz"
        nifti.write(path, converted.volume)
        ours, theirs, itk = nifti.read(path), nib.load(path), SimpleITK.ReadImage(str(path))
        np.testing.assert_allclose(theirs.get_sform(), theirs.get_qform(), atol=1e-5)
        for index in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
            lps = ours.grid.world(np.array(index, float))
            np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint(index), lps, atol=1e-3)
            ras = (theirs.affine @ [*index, 1])[:3]
            np.testing.assert_allclose(ras * [-1, -1, 1], lps, atol=1e-3)
            assert itk[index] == ours.array[index[::-1]]

    def test_order_is_by_position_whatever_names_and_instance_numbers_say(self, tmp_path):
        series = ct_series()
        first = load(series.save(tmp_path / "a", shuffle=1))
        second = load(series.save(tmp_path / "b", shuffle=2))
        np.testing.assert_array_equal(first.volume.array, second.volume.array)
        np.testing.assert_array_equal(first.volume.array[0], series.stored[0].astype(int) - 1024)

    def test_positions_rounded_to_a_tenth_are_converted_with_a_warning(self, tmp_path):
        series = ct_series(shape=(40, 5, 4), spacing_mm=(0.7, 0.9, 1.25))
        for ds in series.slices:
            ds.ImagePositionPatient = [round(float(v), 1) for v in ds.ImagePositionPatient]
        converted = load(series.save(tmp_path))
        assert 0.01 < converted.facts["max_position_error_mm"] <= 0.1
        assert "positions_rounded" in converted.warnings

    @pytest.mark.parametrize("towards", ["RAS", "LPS", "PIR", "SAL"])
    def test_a_canonical_orientation_moves_no_voxel_in_the_world(self, tmp_path, towards):
        folder = ct_series(direction=rotation((3, 5, 95))).save(tmp_path)
        plain = load(folder).volume
        turned = load(folder, conversion=ConversionSettings(orientation=towards)).volume
        assert nib.aff2axcodes(np.diag([-1, -1, 1, 1]) @ turned.grid.affine_lps) == tuple(towards)
        at = np.array([[0, 0, 0], [3, 4, 5], [2, 1, 3]], dtype=float)
        there = turned.grid.index(plain.grid.world(at))
        np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
        for (i, j, k), (x, y, z) in zip(at.astype(int), np.rint(there).astype(int), strict=True):
            assert plain.array[k, j, i] == turned.array[z, y, x]


class TestRefusals:
    def test_a_missing_slice(self, tmp_path):
        series = ct_series(shape=(12, 5, 4))
        del series.slices[5]
        assert refusal(series.save(tmp_path)) == ("missing_slices",)

    def test_a_tilted_gantry(self, tmp_path):
        series = ct_series(shape=(12, 5, 4), step_mm=np.array([0, 0.8, 2.5]))
        assert refusal(series.save(tmp_path)) == ("gantry_tilt",)

    def test_another_matrix_in_the_middle(self, tmp_path):
        series = ct_series()
        series.slices[2].Rows, series.slices[2].Columns = 4, 5
        assert "mixed_matrix" in refusal(series.save(tmp_path))

    def test_colour_is_no_hounsfield_unit(self, tmp_path):
        series = ct_series()
        for ds in series.slices:
            ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
            ds.BitsAllocated = ds.BitsStored = 8
            ds.HighBit = 7
            ds.PixelData = bytes(5 * 4 * 3)
        assert "not_monochrome" in refusal(series.save(tmp_path))

    def test_a_single_slice(self, tmp_path):
        assert refusal(ct_series(shape=(1, 5, 4)).save(tmp_path)) == ("single_slice",)


def ramp(shape, i=3.0, j=5.0, k=7.0):
    """HU that grow linearly along the axes: linear interpolation must reproduce them exactly."""
    kk, jj, ii = np.mgrid[: shape[0], : shape[1], : shape[2]]
    return i * ii + j * jj + k * kk


class TestCorrections:
    @pytest.mark.parametrize("shift_mm", [0.8, -0.8, 0.37])
    def test_shear_is_resampled_away_so_that_the_world_stays(self, tmp_path, shift_mm):
        # A ramp in the world: HU = 10 y + 4 z, in LPS millimetres, sampled on tilted slices.
        shape, spacing, origin = (10, 30, 6), (1.0, 1.0, 2.0), np.array([0.0, 0.0, 0.0])
        step = np.array([0, shift_mm, 2.0])
        k, j, _ = np.mgrid[:10, :30, :6]
        y, z = j + k * shift_mm, k * 2.0
        series = ct_series(
            shape=shape,
            spacing_mm=spacing,
            origin_mm=origin,
            step_mm=step,
            stored=np.rint(100 * (10 * y + 4 * z) + 5000),
            slope=0.01,
            intercept=-50,
        )
        converted = load(series.save(tmp_path), audit=AuditSettings(tilt="correct"))
        volume = converted.volume
        assert converted.corrections == ("gantry_tilt",)
        columns = volume.grid.direction
        np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-6)
        kk, jj, ii = np.mgrid[tuple(slice(size) for size in volume.array.shape)]
        world = volume.grid.world(np.stack([ii, jj, kk], axis=-1).astype(float))
        expected = 10 * world[..., 1] + 4 * world[..., 2]
        inside = volume.array != ConversionSettings().air_hu
        assert inside.mean() > 0.6
        np.testing.assert_allclose(volume.array[inside], expected[inside], atol=0.02)

    def test_uneven_slices_are_brought_to_one_step(self, tmp_path):
        series = ct_series(shape=(9, 5, 4), spacing_mm=(1, 1, 2), slope=0.01, intercept=0)
        heights = np.array([0, 2, 4, 5.2, 8, 10, 12, 14, 16])
        for ds, height in zip(series.slices, heights, strict=True):
            ds.ImagePositionPatient = [0, 0, float(height)]
            ds.PixelData = np.full((5, 4), round(height * 300), dtype=np.uint16).tobytes()
        converted = load(series.save(tmp_path), audit=AuditSettings(uneven_spacing="correct"))
        assert converted.volume.grid.spacing_mm[2] == pytest.approx(2.0)
        np.testing.assert_allclose(converted.volume.array[:, 2, 2], np.arange(9) * 6.0, atol=1e-3)

    def test_masks_follow_the_correction(self, tmp_path):
        series = ct_series(shape=(10, 30, 6), spacing_mm=(1, 1, 2), step_mm=np.array([0, 1.0, 2.0]))
        converted = load(series.save(tmp_path), audit=AuditSettings(tilt="correct"))
        labels = np.zeros((10, 30, 6), dtype=np.uint8)
        labels[4, 10, 3] = 7
        moved = converted.labels_on_volume(labels)
        (found,) = np.argwhere(moved.array == 7)
        np.testing.assert_allclose(
            moved.grid.world(found[::-1].astype(float)), [-30 + 3, 20 + 10 + 4, -100 + 8], atol=1e-6
        )

    def test_exact_duplicates_are_dropped_when_asked_for(self, tmp_path):
        series = ct_series()
        twin = pydicom.dcmread(pydicom.filebase.DicomBytesIO(_bytes(series.slices[2])))
        twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
        series.slices.append(twin)
        folder = series.save(tmp_path)
        assert refusal(folder) == ("exact_duplicate_positions",)
        converted = load(folder, audit=AuditSettings(exact_duplicates="correct"))
        np.testing.assert_array_equal(converted.volume.array, series.stored.astype(int) - 1024)


def _bytes(ds):
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()
