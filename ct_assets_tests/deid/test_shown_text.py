"""Text that only a display shows, codes of bars, and text that no row holds; what shows none is released."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from ct_assets.deid.pixels import barcode, burned_in, glyphs, ocr
from ct_assets.settings.deid import BurnedInSettings
from ct_assets_tests.deid.corpus import pictures
from ct_assets_tests.deid.pictures_of import CT, SECONDARY_CAPTURE, image

NAME = "BRAMBYWICK"
DX, SLIDE = "1.1", "77.1.6"


def judge(dataset: Dataset) -> tuple[str, ...]:
    return burned_in.judge(dataset, BurnedInSettings()).reasons


def where(size: tuple[int, int], text: str = NAME, *, px: int = 18, turned: int = 0) -> np.ndarray:
    """A mask of a line of text; turned about the middle."""
    page = Image.new("L", size[::-1], 0)
    at = (size[1] // 2 - 70, size[0] // 2 - 9) if turned else (10, 10)
    ImageDraw.Draw(page).text(at, text, fill=255, font=ImageFont.load_default(px))
    return np.asarray(page.rotate(turned, Image.Resampling.BICUBIC)) > 127


def hounsfield(mask: np.ndarray, value: float, *, added: bool = False) -> Dataset:
    """A CT slice with what the mask holds drawn in, in HU + 1024."""
    pixels = pictures.body(*mask.shape, 1).astype(float)
    pixels[mask] = pixels[mask] + value if added else value
    return image(pixels.astype(np.uint16), sop_class=CT, RescaleSlope=1, RescaleIntercept=-1024)


class TestDisplay:
    def test_a_palette_shows_what_neighbouring_indices_hide(self):
        # PS3.3 C.7.6.3.1.5: index 1 is white, index 0 black
        table = np.arange(256, dtype="<u2") * 200
        table[1] = 65535
        pixels = np.zeros((40, 130), np.uint8)
        pixels[:, 125:] = 200
        pixels[where(pixels.shape)] = 1
        lut = {
            f"{colour}PaletteColorLookupTable{part}": value
            for colour in ("Red", "Green", "Blue")
            for part, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))
        }
        assert judge(image(pixels, photometric="PALETTE COLOR", **lut)) == ("burned_in_text",)

    @pytest.mark.parametrize("sop_class", [DX, SECONDARY_CAPTURE])
    def test_a_window_of_the_header_shows_what_the_range_hides(self, sop_class):
        # text of 20 beside anatomy of 3000: one grey level of 256 over the range, white in the window 0 to 20
        y, x = np.mgrid[:70, :130]
        pixels = np.where(np.hypot(y - 52, x - 100) < 15, 3000 + (x * 7 + y * 3) % 900, 0).astype(np.uint16)
        pixels[where(pixels.shape)] = 20
        window = {"WindowCenter": 10, "WindowWidth": 20}
        assert judge(image(pixels, sop_class=sop_class, **window)) == ("burned_in_text",)

    def test_a_narrow_window_of_a_slice_shows_it(self):
        slice_ = hounsfield(np.zeros((256, 256), bool), 0)
        pixels = np.where(np.hypot(*(np.mgrid[:256, :256] - 150)) < 80, 1064, 24).astype(np.uint16)
        slice_.PixelData = pixels.tobytes()
        slice_.WindowCenter, slice_.WindowWidth = -990, 20
        assert judge(slice_) == ()
        pixels[where(pixels.shape)] = 39
        slice_.PixelData = pixels.tobytes()
        assert judge(slice_) == ("burned_in_text",)

    @pytest.mark.parametrize(
        ("flavour", "stated", "expected"),
        [
            ("LABEL", "YES", ("burned_in_declared",)),
            ("OVERVIEW", None, ("burned_in_declared",)),
            ("VOLUME", "NO", ()),
        ],
    )
    def test_the_label_of_a_slide_is_held_by_its_header(self, flavour, stated, expected):
        slide = image(
            pictures.photograph(64, 64, 1),
            sop_class=SLIDE,
            photometric="RGB",
            ImageType=["ORIGINAL", "PRIMARY", flavour, "NONE"],
        )
        if stated:
            slide.SpecimenLabelInImage = stated
        assert judge(slide) == expected


class TestCodes:
    def test_bars_are_a_code_and_a_grid_is_none(self):
        # Code 39: each character has nine runs, three of them wide
        widths = np.random.default_rng(2).permuted(np.tile([1, 1, 1, 2.5, 1, 2.5], (15, 1)), axis=1).ravel()
        bars = np.concatenate([np.full(int(2 * w), 255 * (n % 2)) for n, w in enumerate(widths)]).astype(
            np.uint8
        )
        code, grid = (np.full((100, 400), 255, np.uint8) for _ in range(2))
        code[20:80, 20 : 20 + len(bars)] = bars
        grid[20:80, 20:380] = np.tile([0, 0, 0, 255, 255, 255], 60)
        assert barcode.has_code(code)
        assert not barcode.has_code(grid)

    def test_a_qr_code_is_one(self):
        code = cv2.resize(
            cv2.QRCodeEncoder.create().encode("8841207"), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST
        )
        assert barcode.has_code(np.pad(code, 20, constant_values=255))


class TestLines:
    def test_a_name_turned_by_45_degrees_is_found(self):
        assert judge(hounsfield(where((256, 256), turned=45), 4000)) == ("burned_in_text",)

    def test_letters_one_below_the_other_are_found(self):
        mask = np.zeros((256, 256), bool)
        for number, letter in enumerate(NAME):
            mask |= np.roll(where(mask.shape, letter), 22 * number, axis=0)
        assert judge(hounsfield(mask, 4000)) == ("burned_in_text",)

    def test_100_hu_on_air_are_found(self):
        assert judge(hounsfield(where((256, 256)), 100, added=True)) == ("burned_in_text",)

    def test_pieces_of_bone_in_a_row_are_not_read(self, monkeypatch):
        # three strokes of like size on one line, as bright as 700, 1300 and 900 HU: ribs, not letters
        monkeypatch.setattr(ocr, "_read", lambda *_: pytest.fail("read"))
        slice_ = hounsfield(np.zeros((256, 256), bool), 0)
        pixels = pictures.body(256, 256, 1)
        for column, value in ((20, 1724), (34, 2324), (48, 1924)):
            pixels[100:112, column : column + 3] = value
        slice_.PixelData = pixels.tobytes()
        assert judge(slice_) == ()

    def test_three_such_strokes_of_one_value_are_a_row(self):
        pixels = pictures.body(256, 256, 1)
        for column in (20, 34, 48):
            pixels[10:22, column : column + 3] = 2324
        rows = glyphs.rows_of_letters(pixels)
        assert [(row.column, row.row, row.width, row.height, row.letters) for row in rows] == [
            (20, 10, 31, 12, 3)
        ]

    @pytest.mark.parametrize("kind", ["lungs", "grid", "lines"])
    def test_what_shows_no_text_is_released(self, kind, monkeypatch):
        monkeypatch.setattr(ocr, "_read", lambda *_: pytest.fail("read"))
        dice = np.random.default_rng(5)
        pixels = pictures.body(512, 512, 2).astype(float)
        if kind == "lungs":  # vessels as thin as letters, blurred as a scanner blurs
            y, x = np.mgrid[-1:1:512j, -1:1:512j]
            lungs = ((np.abs(x) - 0.35) / 0.25) ** 2 + (y / 0.38) ** 2 < 1
            vessels = cv2.GaussianBlur(dice.normal(0, 1, pixels.shape), (0, 0), 1.6) > 0.4
            pixels = cv2.GaussianBlur(np.where(lungs & vessels, 900.0, pixels), (0, 0), 0.9)
        else:
            pixels[::32] = 3000
            pixels[:, :: 32 if kind == "grid" else 1024] = 3000
        assert (
            judge(image(pixels.astype(np.uint16), sop_class=CT, RescaleIntercept=-1024, RescaleSlope=1)) == ()
        )
