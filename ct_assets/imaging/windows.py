"""The one registry of CT windows, and what a window does to HU.

Belongs here: names, levels and widths, the linear and the DICOM-exact mapping, 8-bit quantisation. Every
system names a window from here; none computes one of its own.

The linear mapping takes the interval [level - width / 2, level + width / 2] to [0, 1]. DICOM's own LINEAR
function (PS3.3 C.11.2.1.2.1) is shifted by half a value and narrower by one: its interval is
[c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2], made for integers on a display.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.errors import UsageError

Floats32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Window:
    """A range of HU that is shown or fed to a network."""

    name: str
    lower_hu: float
    upper_hu: float
    purpose: str

    @property
    def level_hu(self) -> float:
        """Centre of the window."""
        return (self.lower_hu + self.upper_hu) / 2

    @property
    def width_hu(self) -> float:
        """Width of the window."""
        return self.upper_hu - self.lower_hu

    def linear(self, hu: npt.ArrayLike) -> Floats32:
        """Map HU to [0, 1]: 0 at `lower_hu` and below, 1 at `upper_hu` and above, straight between."""
        values = np.asarray(hu, dtype=np.float32)
        return np.clip((values - np.float32(self.lower_hu)) / np.float32(self.width_hu), 0, 1)

    def dicom(self, hu: npt.ArrayLike) -> Floats32:
        """Map HU to [0, 1] as a DICOM viewer does with VOI LUT Function LINEAR (PS3.3 C.11.2.1.2.1)."""
        values = np.asarray(hu, dtype=np.float64)
        centre, width = self.level_hu - 0.5, self.width_hu - 1
        return np.clip((values - centre) / width + 0.5, 0, 1).astype(np.float32)


def _level(name: str, width: float, level: float, purpose: str) -> Window:
    return Window(name, level - width / 2, level + width / 2, purpose)


_WINDOWS = (
    _level("lung", 1500, -600, "lung parenchyma and airways"),
    _level("mediastinum", 400, 40, "mediastinum and soft tissue"),
    _level("brain", 80, 40, "brain parenchyma"),
    _level("blood", 200, 80, "fresh blood in the brain"),
    _level("subdural", 215, 75, "thin collections along the skull"),
    _level("bone", 2800, 600, "bone"),
    _level("brain_low", 30, 15, "lower third of 90/45: fluid and oedema"),
    _level("brain_middle", 30, 45, "middle third of 90/45: grey and white matter"),
    _level("brain_high", 30, 75, "upper third of 90/45: blood and calcification"),
    _level("brain_wide", 90, 45, "brain parenchyma in three bands"),
    Window("triage", -1000, 400, "nodule detection and triage"),
    Window("generative", -2000, 500, "flow matching on nodule crops, padding included"),
    Window("unit_range", -1000, 1000, "air to bone, as in common pre-training of chest CT"),
)
WINDOWS: dict[str, Window] = {window.name: window for window in _WINDOWS}
BANDS: dict[str, tuple[str, ...]] = {
    "brain_thirds": ("brain_low", "brain_middle", "brain_high"),
    "brain_blood_bone": ("brain", "blood", "bone"),
    "brain_subdural_bone": ("brain", "subdural", "bone"),
}
"""Windows that are stacked as channels, by name."""


def window(name: str) -> Window:
    """Return the window of that name. Raises `UsageError` naming those that exist."""
    try:
        return WINDOWS[name]
    except KeyError:
        raise UsageError(f"window {name!r}: unknown; known are {', '.join(sorted(WINDOWS))}") from None


def stack(name: str, hu: npt.ArrayLike) -> Floats32:
    """Map HU through the windows of a band set; channels come first. Raises `UsageError` for other names."""
    try:
        names = BANDS[name]
    except KeyError:
        raise UsageError(f"bands {name!r}: unknown; known are {', '.join(sorted(BANDS))}") from None
    return np.stack([WINDOWS[one].linear(hu) for one in names])


def quantise(unit: npt.ArrayLike) -> Bytes:
    """Store values of [0, 1] in 8 bits by rounding to the nearest of 256: the error is at most 1/510."""
    return np.rint(np.clip(np.asarray(unit, dtype=np.float64), 0, 1) * 255).astype(np.uint8)


def dequantise(stored: Bytes) -> Floats32:
    """Return the values of [0, 1] that `quantise` stored, to within 1/510."""
    return np.divide(stored, np.float32(255), dtype=np.float32)
