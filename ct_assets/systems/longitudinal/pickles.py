"""Pickles from elsewhere, read without running their code.

Belongs here: an unpickler that makes containers, texts, numbers and arrays of numbers, and names what else a file asks
for. A pickle can name any function of any module; whoever loads it plainly runs it.
"""

import io
import pickle
from pathlib import Path
from typing import Any

from ct_assets.errors import UsageError

ALLOWED = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "complex"),
    ("builtins", "bytearray"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}
"""Module and name of everything that may be made; none of these runs code of the file."""
DEFAULT_FACTORIES = {
    ("builtins", name): kind for name, kind in (("list", list), ("dict", dict), ("int", int))
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, path: Path) -> None:
        super().__init__(stream)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in DEFAULT_FACTORIES:
            return DEFAULT_FACTORIES[module, name]
        if (module, name) not in ALLOWED:
            raise UsageError(
                f"{self.path}: the pickle asks for {module}.{name}, which is neither a container nor a number; "
                "export the table as CSV or parquet"
            )
        return super().find_class(module, name)


def load(path: Path) -> Any:
    """Return what a pickle (`.p`, `.pkl`) or a file of `torch.save` (`.pt`, `.pth`) holds.

    Raises `UsageError`, naming file and class, for anything but containers, texts, numbers and arrays or tensors.
    """
    content = path.read_bytes()
    if path.suffix.lower() in (".pt", ".pth"):
        return _torch(path, content)
    try:
        return _Unpickler(io.BytesIO(content), path).load()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path}: is no complete pickle ({type(error).__name__})") from None


def _torch(path: Path, content: bytes) -> Any:
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = next((word for word in str(error).split() if "." in word and word.isascii()), "another class")
        raise UsageError(
            f"{path}: holds more than containers, numbers and tensors ({asked.strip(chr(96))}); "
            "export the table as CSV or parquet"
        ) from None
    except Exception as error:
        raise UsageError(f"{path}: is no complete file of torch.save ({type(error).__name__})") from None
