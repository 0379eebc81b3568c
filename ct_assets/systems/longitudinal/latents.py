"""Latents of crops, with the autoencoder, the scale and the crops that they are of.

Belongs here: encoding a set of crops, keeping it, and refusing what is stale. Does not: the autoencoder.
Latents are divided by their standard deviation over the training pairs: a flow from or to a unit normal does not learn
data of another scale.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints
from ct_assets.systems.longitudinal import autoencoder_task
from ct_assets.systems.longitudinal.patch_store import PatchSet

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """A trained autoencoder and what identifies it."""

    network: autoencoder_task.Network
    weights_sha256: str
    window: str
    is_passed: bool
    """Whether it passed its gate."""


@dataclass(frozen=True)
class Latents:
    """Latents of a set of crops, divided by `scale`."""

    earlier: Floats32
    """(pairs, channels, …)."""
    later: Floats32
    scale: float


def require_gate(encoder: Encoder) -> None:
    """Raise `UsageError` where the autoencoder did not pass its gate."""
    if not encoder.is_passed:
        raise UsageError(
            "autoencoder_below_gate: it does not keep nodules, so that no flow of its latents is trained; train it "
            "longer or use `space: patches`"
        )


def encode(encoder: Encoder, crops: PatchSet, scale: float | None = None) -> Latents:
    """Encode both exams of all pairs; `scale` is that of the training pairs, by default computed here."""
    earlier, later = (
        autoencoder_task.encode(encoder.network, part[:, None]) for part in crops.scaled(encoder.window)
    )
    if scale is None:
        scale = float(np.concatenate([earlier, later]).std())
    return Latents(earlier / np.float32(scale), later / np.float32(scale), scale)


def decode(encoder: Encoder, latents: Floats32, scale: float) -> Floats32:
    """Return crops (n, 1, slices, rows, columns), scaled to -1 … 1, of scaled latents."""
    return autoencoder_task.decode(encoder.network, latents * np.float32(scale))


def write(path: Path, latents: Latents, encoder: Encoder, crops: PatchSet) -> None:
    """Keep latents with all that identifies them."""
    tensors = {"earlier": torch.from_numpy(latents.earlier), "later": torch.from_numpy(latents.later)}
    checkpoints.save_weights(path, tensors, _identity(encoder, crops) | {"scale": repr(latents.scale)})


def read(path: Path, encoder: Encoder, crops: PatchSet) -> Latents:
    """Read latents. Raises `UsageError` naming what they are of, where that is another encoder or other crops."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; encode the crops first")
    tensors, metadata = checkpoints.load_weights(path)
    for name, value in _identity(encoder, crops).items():
        if metadata.get(name) != value:
            raise UsageError(
                f"latents_stale: {path}: {name} is {metadata.get(name)}, the experiment's is {value}; encode again"
            )
    return Latents(tensors["earlier"].numpy(), tensors["later"].numpy(), float(metadata["scale"]))


def _identity(encoder: Encoder, crops: PatchSet) -> dict[str, str]:
    return {
        "encoder_sha256": encoder.weights_sha256,
        "window": encoder.window,
        "crops": crops.digest,
        "pairs": str(len(crops.rows)),
    }
