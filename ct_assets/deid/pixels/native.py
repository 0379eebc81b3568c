"""Native pixel data (PS3.5 8.1.1, 8.2, Annex D of its byte order) down to samples and a byte of padding.

Belongs here: how many bytes the Image Pixel module implies, and whether bits that no sample uses hold anything.
Does not: compressed frames (`encapsulated`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.deid.pixels.codestream import Shape


@dataclass(frozen=True, slots=True)
class Samples:
    """How stored values lie in their words (PS3.3 C.7.6.3)."""

    bits_stored: int
    high_bit: int
    is_signed: bool
    padding: int | None = None
    """PixelPaddingValue, which may lie outside the stored bits."""

    def are_sensible(self, bits_allocated: int) -> bool:
        """Whether they fit into so many bits."""
        return 1 <= self.bits_stored <= bits_allocated and (
            self.bits_stored - 1 <= self.high_bit < bits_allocated
        )


def expected_bytes(shape: Shape, frames: int, *, is_halved: bool) -> int:
    """Return the bytes of all frames; `is_halved`: two columns share their colours (YBR_FULL_422)."""
    samples = 2 if is_halved and shape.samples == 3 else shape.samples
    return -(-shape.rows * shape.columns * samples * frames * shape.bits // 8)


def stripped(value: bytes, expected: int, used_bits_of_last: int = 8) -> tuple[bytes, int]:
    """Return samples and padding to even length, and how many bytes were no sample.

    `used_bits_of_last` tells how many bits of the last byte are pixels, where each has one bit. A padding byte
    stays as it is: whatever its value, one byte says nothing.
    """
    rest = value[expected:]
    last = value[expected - 1]
    bits = last & ((1 << used_bits_of_last) - 1)
    if bits == last and len(rest) == expected & 1:
        return value, 0
    samples = value[: expected - 1] + bytes((bits,))
    return samples + b"\0" * (expected & 1), max(len(rest), 1)


def uses_other_bits(stored: npt.NDArray[np.integer], samples: Samples) -> bool:
    """Whether words hold anything beyond their stored bits: neither zero nor the sign, nor declared padding."""
    width, bits = stored.dtype.itemsize * 8, samples.bits_stored
    shift = samples.high_bit + 1 - bits
    if bits == width or not stored.size:
        return False
    largest = int(stored.max())
    smallest = int(stored.min()) if samples.is_signed else 0
    if shift == 0 and smallest >= 0 and largest < 1 << bits:
        return False
    if shift == 0 and samples.is_signed and smallest >= -(1 << (bits - 1)) and largest < 1 << (bits - 1):
        return False
    words = stored.astype(stored.dtype.newbyteorder("=")).view(f"u{width // 8}").ravel()
    if samples.padding is not None:
        words = words[words != samples.padding % (1 << width)]
    above = words >> (samples.high_bit + 1) if samples.high_bit + 1 < width else np.zeros_like(words)
    sign = words >> samples.high_bit & 1 if samples.is_signed else np.zeros_like(words)
    ones = (1 << (width - samples.high_bit - 1)) - 1
    is_extended = (above == 0) | ((sign == 1) & (above == ones))
    below = words & ((1 << shift) - 1)
    return not bool(np.all(is_extended & (below == 0)))
