"""The token cache's names for scripts and notebooks: `from ct_assets.neuro import CacheManager`.

Belongs here: the public names of `ct_assets.systems.neuro`; they keep their place whatever moves behind them, and are
imported when first used, so that settings, tables and the command line stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_assets.systems.neuro.cache import CacheManager
    from ct_assets.systems.neuro.collate import pack, pad
    from ct_assets.systems.neuro.datamodule import ImageDataModule
    from ct_assets.systems.neuro.dataset import ImageDataset
    from ct_assets.systems.neuro.encoder import TinyEncoder
    from ct_assets.systems.neuro.load import load_image
    from ct_assets.systems.neuro.metadata import DatasetMetadata
    from ct_assets.systems.neuro.prepare import prepare_for_inference
    from ct_assets.systems.neuro.refusal import ImageRefusedError
    from ct_assets.systems.neuro.sampler import StudyAwareBatchSampler
    from ct_assets.systems.neuro.tokens import detokenize, tokenize

_MODULE_OF = {
    "CacheManager": "cache",
    "DatasetMetadata": "metadata",
    "ImageDataModule": "datamodule",
    "ImageDataset": "dataset",
    "ImageRefusedError": "refusal",
    "StudyAwareBatchSampler": "sampler",
    "TinyEncoder": "encoder",
    "detokenize": "tokens",
    "load_image": "load",
    "pack": "collate",
    "pad": "collate",
    "prepare_for_inference": "prepare",
    "tokenize": "tokens",
}

__all__ = [
    "CacheManager",
    "DatasetMetadata",
    "ImageDataModule",
    "ImageDataset",
    "ImageRefusedError",
    "StudyAwareBatchSampler",
    "TinyEncoder",
    "detokenize",
    "load_image",
    "pack",
    "pad",
    "prepare_for_inference",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ct_assets.systems.neuro.{_MODULE_OF[name]}"), name)
