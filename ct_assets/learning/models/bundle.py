"""Bundles: trained models as a folder that needs nothing else to predict.

Belongs here: what lies in the folder, writing and reading it, and one volume through all of its members.
Does not: DICOM, files of a prediction (`learning.models.predict`), what goes into the final model
(`learning.models.final_model`).

The folder: `bundle.json` (members, conventions, calibration, thresholds, digests), `<member>.safetensors`,
`<member>.plan.json`, `card.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Volume
from ct_assets.learning.evaluation import calibration
from ct_assets.learning.models import inference
from ct_assets.learning.networks.dual_head import DualHeadNetwork
from ct_assets.learning.training import checkpoints, lung_task
from ct_assets.learning.volumes import prepare
from ct_assets.learning.volumes.plan import Plan
from ct_assets.settings.base import Section
from ct_assets.settings.training import TrainingConfig

BUNDLE_NAME = "bundle.json"
FORMAT = 1
MASK_THRESHOLD = 0.5

Floats = npt.NDArray[np.float32]


class MemberFiles(Section):
    """One member's files in the bundle."""

    name: str
    weights: str
    weights_sha256: str
    plan: str
    plan_digest: str


class Bundle(Section):
    """What `bundle.json` says."""

    format: int = FORMAT
    experiment: str
    kind: Literal["fold_ensemble", "single"]
    stages: tuple[str, ...]
    """Classes in the order of probabilities; empty without a stage head."""
    config: TrainingConfig
    config_digest: str
    manifest_digest: str
    members: tuple[MemberFiles, ...]
    calibration: calibration.Calibration
    conventions: dict[str, str]
    """What input and output mean, in words."""
    versions: dict[str, str]
    """What the bundle was made with."""
    uses: dict[str, str] = Field(default_factory=dict, exclude_if=lambda uses: not uses)
    """Other bundles that it needs: digest by name (`learning.models.uses`)."""
    digest: str = ""
    """Digest of everything above; weights and plans enter by their own digests."""

    def sealed(self) -> "Bundle":
        """Return the bundle with its digest set."""
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        """Return the digest of everything but the digest itself."""
        content = self.model_dump(mode="json")
        content.pop("digest")
        return files.digest_of(content)


CONVENTIONS = {
    "input": "CT in Hounsfield units, any orientation and spacing; the plan orients, crops and resamples",
    "mask": "1 tumour, 0 else, on the input's own grid; voxels whose mean probability is at least 0.5",
    "stage": "calibrated probabilities in the order of `stages`; one stage a patient",
    "coordinates": "NIfTI in RAS millimetres, DICOM in LPS millimetres",
}


@dataclass(frozen=True)
class Member:
    """One trained network with the plan that prepares its input."""

    name: str
    network: DualHeadNetwork
    plan: Plan
    config: TrainingConfig
    device: torch.device

    def run(self, volume: Volume) -> tuple[Floats, Floats | None]:
        """Return tumour probability on the volume's own grid (k, j, i), and stage probabilities."""
        prepared = prepare.image(volume, self.plan)
        image = torch.from_numpy(prepare.network_input(prepared, self.plan))
        whole = inference.run(
            self.network,
            image,
            patch_size=lung_task.patch_size_of(self.config, self.plan),
            settings=self.config.inference,
            stage_windows=self.config.sampling.windows_per_patient,
            outside=lung_task.outside_value(self.plan, image),
            device=self.device,
        )
        probability = whole.logits[0].sigmoid().numpy()
        native = prepare.back_probability(probability, prepared.image.grid, volume.grid).array
        stage = None if whole.stage_probabilities is None else whole.stage_probabilities.numpy()
        return np.asarray(native, dtype=np.float32), stage


@dataclass(frozen=True)
class Predicted:
    """A predicted case."""

    mask: Volume
    """uint8, 1 tumour, on the input's grid."""
    probability: Floats
    """Mean tumour probability, (k, j, i)."""
    stage_probabilities: tuple[float, ...] | None
    """Mean over members, uncalibrated; None without a stage head."""

    @property
    def tumour_ml(self) -> float:
        """Volume of the mask."""
        return float(np.count_nonzero(self.mask.array)) * self.mask.grid.voxel_volume_ml


def predict(
    members: Sequence[Member] | Iterator[Member], volume: Volume, min_component_ml: float
) -> Predicted:
    """Run a volume in HU through members one after the other and average; memory holds one at a time."""
    total = np.zeros(volume.grid.shape, np.float32)
    stages: list[Floats] = []
    count = 0
    for member in members:
        probability, stage = member.run(volume)
        total += probability
        count += 1
        if stage is not None:
            stages.append(stage)
    total /= np.float32(count)
    mask = drop_small(
        (total >= MASK_THRESHOLD).astype(np.uint8), volume.grid.voxel_volume_ml, min_component_ml
    )
    mean = tuple(float(p) for p in np.mean(stages, axis=0)) if stages else None
    return Predicted(Volume(mask, volume.grid), total, mean)


def drop_small(
    mask: npt.NDArray[np.uint8], voxel_ml: float, min_component_ml: float
) -> npt.NDArray[np.uint8]:
    """Return the mask without components (26 neighbours) of less than `min_component_ml`."""
    if min_component_ml <= 0 or not mask.any():
        return mask
    from scipy import ndimage

    numbered, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel()) * voxel_ml
    sizes[0] = 0
    return (sizes >= min_component_ml)[numbered].astype(np.uint8)


def open_member(
    name: str, weights: Path, plan: Plan, config: TrainingConfig, classes: int, device: torch.device
) -> Member:
    """Load one member in eval mode. Raises `UsageError` where the weights do not fill the network exactly."""
    network = lung_task.build_network(config, plan, classes)
    stored, _ = checkpoints.load_weights(weights)
    missing, unexpected = network.load_state_dict(stored, strict=False)
    if missing or unexpected:
        raise UsageError(
            f"{weights}: does not fit its configuration: {len(missing)} tensors missing, {len(unexpected)} unknown"
        )
    return Member(name, network.eval().to(device), plan, config, device)


def device_of(config: TrainingConfig) -> torch.device:
    """Return where to predict: the configuration's accelerator, or what is at hand."""
    wants_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if wants_gpu else "cpu")


def load(folder: Path) -> Bundle:
    """Read a bundle's description and hold its files against their digests.

    Raises `UsageError` naming the file that is missing or is not what the bundle was made with.
    """
    path = folder / BUNDLE_NAME
    if not path.exists():
        raise UsageError(f"{folder}: no {BUNDLE_NAME} in it; give the folder of a final model")
    content: dict[str, Any] = files.read_json(path)
    if content.get("format") != FORMAT:
        raise UsageError(f"{path}: bundle format {content.get('format')}, this program reads {FORMAT}")
    bundle = Bundle.model_validate(content)
    # Of what the file holds: fields that later versions add have no place in the digest of an older bundle.
    if bundle.digest != files.digest_of({key: value for key, value in content.items() if key != "digest"}):
        raise UsageError(f"{path}: was changed after it was made: its digest does not match")
    for member in bundle.members:
        weights = folder / member.weights
        if not weights.exists() or files.sha256_file(weights) != member.weights_sha256:
            raise UsageError(f"{weights}: is missing or not what the bundle was made with (SHA-256)")
    return bundle


def open_members(folder: Path, bundle: Bundle) -> list[Member]:
    """Open all members of a bundle."""
    device = device_of(bundle.config)
    members = []
    for member in bundle.members:
        plan = Plan.load(folder / member.plan)
        if plan.digest != member.plan_digest:
            raise UsageError(f"{folder / member.plan}: is not the plan that the bundle was made with")
        weights = folder / member.weights
        members.append(open_member(member.name, weights, plan, bundle.config, len(bundle.stages), device))
    return members
