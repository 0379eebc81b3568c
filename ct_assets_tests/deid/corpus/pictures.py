"""Pixels of the corpus: bodies, ultrasound fans, photographs, and text drawn into them.

All from seeded noise; the typeface is the one inside Pillow.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def body(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return a CT slice in stored values (HU + 1024), uint16: air, an elliptic body, spine and noise."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    hu = np.full((rows, columns), -1000.0)
    hu[(x / 0.8) ** 2 + (y / 0.6) ** 2 < 1] = 40
    for side in (-0.35, 0.35):
        hu[((x - side) / 0.25) ** 2 + (y / 0.38) ** 2 < 1] = -850
    hu[(x / 0.1) ** 2 + ((y - 0.42) / 0.12) ** 2 < 1] = 450
    return np.clip(hu + noise.normal(0, 18, hu.shape) + 1024, 0, 4095).astype(np.uint16)


def scout(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return a projection, uint16: a broad shadow with darker lungs."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    shade = 900 * np.exp(-(x**2) * 2.5) * (1 - 0.4 * np.exp(-((np.abs(x) - 0.4) ** 2) * 30 - y**2 * 3))
    return np.clip(shade + noise.normal(0, 12, shade.shape), 0, 4095).astype(np.uint16)


def fan(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return an ultrasound frame, uint8: a fan of speckle on black."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    inside = (np.hypot(x, y) < 0.95) & (np.abs(np.arctan2(x, y + 1e-6)) < 0.7) & (y > 0.08)
    speckle = noise.rayleigh(1.0, (rows // 4 + 1, columns // 4 + 1))
    speckle = np.kron(speckle, np.ones((4, 4)))[:rows, :columns]
    return np.where(inside, np.clip(speckle * 55, 0, 235), 0).astype(np.uint8)


def photograph(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return an RGB picture, uint8: soft coloured spots."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    picture = np.zeros((rows, columns, 3))
    for _ in range(6):
        cy, cx, width = noise.uniform((0.1, 0.1, 0.1), (0.9, 0.9, 0.3))
        spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
        picture += spot[..., None] * noise.uniform(20, 90, 3)
    return np.clip(picture + 40, 0, 255).astype(np.uint8)


def with_text(
    frame: np.ndarray, lines: list[str], *, size: int = 16, at: tuple[int, int] = (6, 4)
) -> np.ndarray:
    """Return a copy of `frame` with lines of text in its brightest value from column, row `at` on."""
    mask = Image.new("L", (frame.shape[1], frame.shape[0]), 0)
    pen = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + number * int(size * 1.4)), line, fill=255, font=ImageFont.load_default(size))
    share = np.asarray(mask, dtype=float) / 255
    bright = max(float(frame.max()), 255.0 if frame.dtype == np.uint8 else 1500.0)
    if frame.ndim == 3:
        share = share[..., None]
    return np.rint(frame * (1 - share) + bright * share).astype(frame.dtype)


def page(rows: int, columns: int, lines: list[str]) -> np.ndarray:
    """Return a page of white text on black, uint8."""
    return with_text(np.zeros((rows, columns), np.uint8), lines, size=18, at=(20, 20))
