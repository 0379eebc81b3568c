"""Weights to start from: published or own files, and an honest list of what was loaded.

Belongs here: the layouts in which published files name their tensors, the list, the refusals. A tensor is
loaded where name and shape agree and never broadcast; a file that fills next to nothing is an error, since
`strict=False` would train from noise without a word.

Layouts:
- `swin_ssl`: the self-supervised encoder of Swin-UNETR (Tang 2022, arXiv:2111.14791): `module.` names under
  `state_dict`, the perceptron's layers as `fc1` and `fc2`.
- `swin_dae`: the encoder of Disruptive Autoencoders (Valanarasu 2023, arXiv:2307.16896): `encoder.` names under
  `model`, each level's blocks one name shorter in ours.
- `swin_unetr`: a whole Swin-UNETR (the BTCV checkpoints): our own names, maybe under `state_dict`.
- `own`: safetensors of this project.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints
from ct_assets.learning.volumes.plan import Plan
from ct_assets.settings.base import Section
from ct_assets.settings.training import PretrainedSettings, TrainingConfig

Layout = Literal["swin_ssl", "swin_dae", "swin_unetr", "own"]

SPACING_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class Convention:
    """What a file's training saw."""

    spacing_mm: tuple[float, float, float]
    lower_hu: float
    upper_hu: float


CONVENTIONS: dict[Layout, Convention] = {
    "swin_ssl": Convention((1.5, 1.5, 2.0), -1000.0, 1000.0),
    "swin_dae": Convention((1.5, 1.5, 2.0), -1000.0, 1000.0),
    "swin_unetr": Convention((1.5, 1.5, 2.0), -175.0, 250.0),
}
"""HU range mapped to 0 … 1 and spacing (x, y, z), as the published recipes state them."""


class WeightsReport(Section):
    """What a file filled, name by name (`pretrained.json` beside the training)."""

    file: str
    sha256: str
    layout: Layout
    loaded: tuple[str, ...]
    not_in_file: tuple[str, ...]
    """Tensors of the network that the file does not have: they stay random."""
    other_shape: tuple[str, ...]
    """Tensors that both have in different shapes: they stay random."""
    not_in_network: tuple[str, ...]
    """Tensors of the file that the network does not have."""
    share: float
    """Share of the values of the part that such a file is meant to fill."""
    convention_differences: tuple[str, ...] = ()
    """Where the plan gives other input than the weights saw, in words."""

    def line(self) -> str:
        """Return the report in one line."""
        return (
            f"pre-trained weights ({self.layout}): {len(self.loaded)} tensors loaded, {100 * self.share:.1f} % of "
            f"what such a file fills; {len(self.not_in_file)} not in the file, {len(self.other_shape)} of another "
            f"shape, {len(self.not_in_network)} of the file unused"
        )


def load(network: nn.Module, config: TrainingConfig, plan: Plan) -> WeightsReport:
    """Fill the network from the configuration's file and return what was loaded.

    Raises `UsageError`: the file is not the one named by its SHA-256, holds pickled objects, fills less than
    `min_share` of what its layout is meant to fill, or saw another spacing or intensity than the plan gives.
    """
    settings = config.pretrained
    assert settings is not None
    path = settings.path
    if not path.exists():
        raise UsageError(f"pretrained.path: {path}: no such file")
    sha256 = files.sha256_file(path)
    if settings.sha256 is not None and settings.sha256 != sha256:
        raise UsageError(f"{path}: its SHA-256 is {sha256}, pretrained.sha256 says {settings.sha256}")
    stored, layout, metadata = read(path, settings.layout)
    differences = convention_differences(layout, metadata, plan)
    if differences and not settings.accept_other_convention:
        raise UsageError(
            f"weights_convention: {path.name}: {'; '.join(differences)}; plan with the weights' convention, or "
            "set pretrained.accept_other_convention"
        )
    report = fill(network, stored, layout, file=path.name, sha256=sha256)
    report = report.model_copy(update={"convention_differences": differences})
    _refuse_empty(report, settings, path)
    return report


def read(path: Path, layout: str) -> tuple[dict[str, Tensor], Layout, dict[str, str]]:
    """Read a file's tensors under our names, the layout found, and its metadata; nothing is unpickled."""
    if path.suffix == ".safetensors":
        stored, metadata = checkpoints.load_weights(path)
        found: Layout = "own" if layout == "auto" else layout  # type: ignore[assignment]
        return _prefixed(stored) if found == "swin_unetr" else stored, found, metadata
    content = checkpoints.load(path)
    tensors = _tensors(content)
    found = _recognise(tensors, path) if layout == "auto" else layout  # type: ignore[assignment]
    rename: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
        "swin_ssl": _from_ssl,
        "swin_dae": _from_dae,
        "swin_unetr": _prefixed,
        "own": _from_own,
    }
    return rename[found](tensors), found, {}


def fill(
    network: nn.Module, stored: Mapping[str, Tensor], layout: Layout, *, file: str, sha256: str
) -> WeightsReport:
    """Copy what agrees in name and shape; count what such a file is meant to fill."""
    own = network.state_dict()
    loaded = sorted(name for name in stored if name in own and own[name].shape == stored[name].shape)
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(stored[name])
    other_shape = sorted(name for name in stored if name in own and own[name].shape != stored[name].shape)
    meant = {name: value.numel() for name, value in own.items() if _is_meant(name, layout)}
    total = sum(meant.values())
    return WeightsReport(
        file=file,
        sha256=sha256,
        layout=layout,
        loaded=tuple(loaded),
        not_in_file=tuple(sorted(set(own) - set(stored))),
        other_shape=tuple(other_shape),
        not_in_network=tuple(sorted(set(stored) - set(own))),
        share=sum(meant[name] for name in loaded if name in meant) / total if total else 0.0,
    )


def convention_differences(layout: Layout, metadata: Mapping[str, str], plan: Plan) -> tuple[str, ...]:
    """Return in words where the plan's input differs from what the weights saw; own weights carry theirs."""
    differences = []
    if layout == "own":
        for key, value in input_convention(plan).items():
            if key in metadata and metadata[key] != value:
                differences.append(f"{key}: the weights saw {metadata[key]}, the plan gives {value}")
        return tuple(differences)
    convention = CONVENTIONS[layout]
    if any(
        abs(a - b) > SPACING_TOLERANCE_MM
        for a, b in zip(plan.target_spacing_mm, convention.spacing_mm, strict=True)
    ):
        differences.append(
            f"the weights saw a spacing of {convention.spacing_mm} mm, the plan gives {plan.target_spacing_mm}"
        )
    intensity = plan.intensity
    same = (
        intensity.lower_hu == convention.lower_hu
        and intensity.upper_hu == convention.upper_hu
        and intensity.subtract == convention.lower_hu
        and intensity.divide == convention.upper_hu - convention.lower_hu
    )
    if not same:
        differences.append(
            f"the weights saw {convention.lower_hu:g} … {convention.upper_hu:g} HU as 0 … 1, the plan gives "
            f"{intensity.scheme} of {intensity.lower_hu:g} … {intensity.upper_hu:g} HU"
        )
    return tuple(differences)


def input_convention(plan: Plan) -> dict[str, str]:
    """Return what our own weights carry of the input they saw, as safetensors metadata."""
    intensity = plan.intensity
    return {
        "spacing_mm": ",".join(f"{size:g}" for size in plan.target_spacing_mm),
        "intensity": f"{intensity.scheme}:{intensity.lower_hu:g}:{intensity.upper_hu:g}",
    }


def _refuse_empty(report: WeightsReport, settings: PretrainedSettings, path: Path) -> None:
    if report.share >= settings.min_share:
        return
    missing = ", ".join((*report.other_shape, *report.not_in_file)[:5])
    raise UsageError(
        f"weights_not_loaded: {path.name} ({report.layout}) filled {100 * report.share:.1f} % of what it should, "
        f"pretrained.min_share asks for {100 * settings.min_share:g} %; not loaded, among others: {missing}"
    )


def _is_meant(name: str, layout: Layout) -> bool:
    """Tell whether a file of this layout is meant to fill the tensor."""
    if layout in ("swin_ssl", "swin_dae"):
        return name.startswith("backbone.swinViT.")
    return name.startswith("backbone.")


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, whichever of the usual keys holds them."""
    inner = content
    for key in ("state_dict", "model", "module"):
        if isinstance(inner.get(key), Mapping):
            inner = inner[key]
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}


def _recognise(tensors: Mapping[str, Tensor], path: Path) -> Layout:
    names = [name.removeprefix("module.") for name in tensors]
    if any(name.startswith("swinViT.") for name in names):
        return "swin_unetr"
    if any(name.startswith("encoder.layers1.") for name in names):
        return "swin_dae"
    if any(name.startswith("layers1.0.blocks.") for name in names):
        return "swin_ssl"
    if any(name.startswith(("backbone.", "network.backbone.")) for name in names):
        return "own"
    raise UsageError(
        f"weights_not_loaded: {path.name}: its tensors are named as in no known layout (first: "
        f"{', '.join(names[:3])}); known are swin_ssl, swin_dae, swin_unetr and own"
    )


def _from_ssl(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename `module.layers1.0.blocks.0.mlp.fc1.weight` and its kind."""
    renamed = {}
    for name, value in tensors.items():
        ours = name.removeprefix("module.").replace(".mlp.fc1.", ".mlp.linear1.")
        renamed[f"backbone.swinViT.{ours.replace('.mlp.fc2.', '.mlp.linear2.')}"] = value
    return renamed


def _from_dae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename `encoder.layers1.0.0.blocks.…`: the second number is one module deeper than ours."""
    renamed = {}
    for name, value in tensors.items():
        ours = re.sub(r"^encoder\.(layers\d)\.(\d)\.\d\.", r"\1.\2.", name)
        ours = ours.removeprefix("encoder.").replace(".mlp.fc1.", ".mlp.linear1.")
        renamed[f"backbone.swinViT.{ours.replace('.mlp.fc2.', '.mlp.linear2.')}"] = value
    return renamed


def _from_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the network out of a checkpoint of ours; the loss's own tensors stay behind."""
    return {name.removeprefix("network."): value for name, value in tensors.items()}


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{name.removeprefix('module.')}": value for name, value in tensors.items()}
