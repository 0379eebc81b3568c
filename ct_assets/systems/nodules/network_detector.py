"""A trained nodule network as a detector: peaks of its heat map with offset, size, urgency and mask.

Belongs here: from maps to marks and findings. Does not: the network, training.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import blend, findings, patches, peaks, volumes
from ct_assets.systems.nodules.detector import Detection, Detections
from ct_assets.systems.nodules.marks import Mark
from ct_assets.systems.nodules.network import NoduleNetwork

LEAST_HEAT = 0.05
APART_MM = 5.0
MOST = 100


@dataclass(frozen=True)
class Decoding:
    """How peaks become marks."""

    least_heat: float = LEAST_HEAT
    apart_mm: float = APART_MM
    """Of two peaks nearer than this the higher remains."""
    most: int = MOST


@dataclass(frozen=True, eq=False)
class NetworkDetector:
    """The network on its grid: isotropic, along the patient's axes, cut to the lungs."""

    network: NoduleNetwork
    patch_size: tuple[int, int, int] = (96, 96, 96)
    spacing_mm: float = 1.0
    overlap: float = 0.5
    mode: blend.Mode = "gaussian"
    decoding: Decoding = Decoding()
    name: str = "network"

    def detect(self, volume: Volume) -> Detections:
        """Return the findings of a volume in HU. The network must be in eval mode."""
        return self.detect_prepared(volumes.prepare(volume, self.spacing_mm))

    def detect_prepared(self, prepared: volumes.Prepared) -> Detections:
        """Return the findings of a volume that is on the network's grid already."""
        fine = prepared.image
        maps = run(self.network, fine, self.patch_size, overlap=self.overlap, mode=self.mode)
        drawn, _ = ndimage.label(maps["mask"][0].numpy() > 0)
        rows = []
        for mark in marks(maps, fine.grid, "", self.decoding):
            part, first = _part(drawn, fine.grid, mark)
            finding = findings.measure(part, fine, confidence=mark.score, first=first)
            centre = mark.centre_mm
            placed = replace(
                finding,
                centre_lps_mm=centre,
                centre_kji=findings.on_grid(replace(finding, centre_lps_mm=centre), fine.grid),
                triage=mark.triage,
            )
            rows.append(Detection(placed, part, first))
        return Detections(fine, prepared.lungs, tuple(rows))


def run(
    network: NoduleNetwork,
    image: Volume,
    patch_size: tuple[int, int, int],
    *,
    overlap: float = 0.5,
    mode: blend.Mode = "gaussian",
) -> dict[str, Tensor]:
    """Return the network's maps of an image in HU on its grid; mask, heat and triage are logits."""
    device = next(network.parameters()).device
    return blend.blend(
        lambda windows: network(windows.to(device)),
        torch.from_numpy(patches.scaled(image.array))[None],
        patch_size=patch_size,
        overlap=overlap,
        mode=mode,
    )


def marks(maps: dict[str, Tensor], grid: Grid, scan: str, decoding: Decoding) -> list[Mark]:
    """Return the peaks of the heat as marks, by falling score; the diameter is that of the ball of equal volume."""
    heat = maps["heat"][0].sigmoid().numpy()
    places, heights = peaks.local_maxima(heat, decoding.least_heat)
    result = []
    voxels = np.clip(np.rint(places).astype(int), 0, np.array(grid.shape) - 1)
    k, j, i = voxels.T
    offset = maps["offset"].numpy()[:, k, j, i].T
    size = maps["size_mm"].numpy()[:, k, j, i].T
    urgent = maps["triage"][0].sigmoid().numpy()[k, j, i]
    centres = grid.world((voxels + offset)[:, ::-1])
    for row in peaks.suppress_points(centres, heights, decoding.apart_mm)[: decoding.most].tolist():
        x, y, z = centres[row].tolist()
        diameter = float(np.prod(np.maximum(size[row], 0), dtype=np.float64) ** (1 / 3))
        result.append(Mark(scan, (x, y, z), float(heights[row]), diameter, float(urgent[row])))
    return result


def _part(
    drawn: npt.NDArray[np.int32], grid: Grid, mark: Mark
) -> tuple[npt.NDArray[np.bool_], tuple[int, int, int]]:
    """Return the mask of a mark and its first voxel: what the network drew there, or else a ball of its diameter.

    What it drew counts only within the mark's diameter from the centre, so that touching nodules do not become one.
    """
    centre = grid.index(np.array(mark.centre_mm))[::-1]
    diameter = max(mark.diameter_mm or 0.0, min(grid.spacing_mm))
    reach = int(np.ceil(diameter / min(grid.spacing_mm))) + 1
    middle = np.clip(np.rint(centre).astype(int), 0, np.array(grid.shape) - 1)
    low = np.maximum(middle - reach, 0)
    box = tuple(slice(a, b + reach + 1) for a, b in zip(low, middle, strict=True))
    labels = drawn[box]
    axes = np.moveaxis(np.indices(labels.shape), 0, -1) + low - centre
    away = np.linalg.norm(axes * np.array(grid.spacing_mm)[::-1], axis=-1)
    here = tuple((middle - low).tolist())
    part = (labels == labels[here]) & (away <= diameter) if labels[here] else away <= diameter / 2
    part[here] = True
    first, second, third = low.tolist()
    return part, (first, second, third)
