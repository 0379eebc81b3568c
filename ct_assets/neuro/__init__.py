"""Head CT and MR: from NIfTI or DICOM to a cache of token volumes, data sets and batches.

Belongs here: the public names. They are imported when first used, so that settings, tables and the
command line stay light. Images are loaded in `load` and `preprocess`, made into arrays in `prepare`, cut into
tokens in `tokens`, kept in `cache`, and read for training by `dataset`, `sampler`, `collate`, `datamodule`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_assets.neuro.cache import CacheManager
    from ct_assets.neuro.collate import pack, pad
    from ct_assets.neuro.datamodule import ImageDataModule
    from ct_assets.neuro.dataset import ImageDataset
    from ct_assets.neuro.encoder import TinyEncoder
    from ct_assets.neuro.load import load_image
    from ct_assets.neuro.metadata import DatasetMetadata
    from ct_assets.neuro.prepare import prepare_for_inference
    from ct_assets.neuro.refusal import ImageRefusedError
    from ct_assets.neuro.sampler import StudyAwareBatchSampler
    from ct_assets.neuro.tokens import detokenize, tokenize

_ROOM_OF = {
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
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
