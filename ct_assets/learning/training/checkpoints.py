"""Checkpoints: everything that an exact resume needs, and the weights that others use.

Belongs here: files and their trust. A checkpoint holds tensors and plain containers only and is read with
`weights_only`; weights for use are safetensors. Nothing pickled is ever run.
"""

import os
import pickle
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ct_assets import files
from ct_assets.errors import UsageError

LAST_NAME = "last.ckpt"
WEIGHTS_NAME = "best.safetensors"
METADATA_KEY = "ct_assets"
FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically: tensors, numbers, strings, lists, tuples and dicts only."""
    with files.atomic_path(path) as partial:
        torch.save({"format": FORMAT, **content}, partial)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises `UsageError` for files with pickled objects or other formats."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path}: holds pickled objects, which are never run; give tensors in plain containers or safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise UsageError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); put a best-*.ckpt beside it in its "
            "place, or move it away to train from the start"
        ) from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a checkpoint is a mapping, this is {type(content).__name__}")
    return content


def link(source: Path, target: Path) -> None:
    """Give a checkpoint a second name without a second copy, where the file system can."""
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source)
    except OSError:
        files.write_bytes(target, source.read_bytes())
        return
    partial.replace(target)


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Write weights as safetensors, atomically, and return the file's SHA-256."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    # One entry: the format's writer puts several in random order, and equal weights shall be equal bytes.
    described = orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS).decode()
    files.write_bytes(path, to_safetensors(plain, metadata={METADATA_KEY: described}))
    return files.sha256_file(path)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read weights and metadata of a safetensors file. Raises `UsageError` where it is none."""
    try:
        with safe_open(path, framework="pt") as opened:
            described = (opened.metadata() or {}).get(METADATA_KEY, "{}")
            return {name: opened.get_tensor(name) for name in opened.keys()}, orjson.loads(described)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: is no readable safetensors file ({type(error).__name__})") from None


@dataclass(frozen=True)
class RandomState:
    """The states of every generator that a step may draw from."""

    torch_cpu: Tensor
    torch_cuda: list[Tensor]
    python: tuple[Any, ...]
    numpy_keys: Tensor
    numpy_rest: tuple[Any, ...]

    @classmethod
    def now(cls) -> "RandomState":
        """Take the present states."""
        name, keys, position, has_gauss, gauss = np.random.get_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(
            torch.get_rng_state(),
            cuda,
            random.getstate(),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            (str(name), int(position), int(has_gauss), float(gauss)),
        )

    def restore(self) -> None:
        """Put the states back."""
        torch.set_rng_state(self.torch_cpu)
        if self.torch_cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.torch_cuda)
        version, internal, gauss = self.python
        random.setstate((version, tuple(internal), gauss))
        name, position, has_gauss, cached = self.numpy_rest
        keys = self.numpy_keys.numpy().astype(np.uint32)
        np.random.set_state((name, keys, position, has_gauss, cached))

    def plain(self) -> dict[str, Any]:
        """Return the states as tensors and plain containers."""
        return dict(vars(self))

    @classmethod
    def of_plain(cls, content: dict[str, Any]) -> "RandomState":
        """Rebuild from `plain`."""
        return cls(**content)
