"""Batches of images with unequal numbers of tokens: padded, or packed end to end.

Belongs here: `pad` and `pack`, for `DataLoader(..., collate_fn=pad)`. Images that could not be read (None)
are left out and counted in `skipped`; a batch of nothing else has tensors of the right shape with no image.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ct_assets.errors import UsageError
from ct_assets.systems.neuro.dataset import Item
from ct_assets.systems.neuro.tokens import FEATURES

Batch = dict[str, Any]


def pad(items: Sequence[Item | None], *, remove_background: bool = False) -> Batch:
    """Return a batch padded to its longest image.

    `img` (B, N, 1024), `coords` (B, N, 3), `filtered` (B, N) with 1 for background and padding, `mask` (B, N)
    true where a token is one of the image; `size` (B, 3), `label` as by `_labels`, `path`, `study`, `mode`,
    `window` as lists; `skipped`. With `remove_background` background tokens are dropped first.
    """
    images = _tokenised(items)
    kept = [_kept(item, remove_background, 0.0) for item in images]
    longest = max((len(index) for index in kept), default=0)
    batch: Batch = {
        "img": torch.zeros(len(images), longest, FEATURES),
        "coords": torch.zeros(len(images), longest, 3, dtype=torch.int64),
        "filtered": torch.ones(len(images), longest, dtype=torch.uint8),
        "mask": torch.zeros(len(images), longest, dtype=torch.bool),
    }
    for row, (item, index) in enumerate(zip(images, kept, strict=True)):
        for key in ("img", "coords", "filtered"):
            batch[key][row, : len(index)] = item[key][index]
        batch["mask"][row, : len(index)] = True
    return batch | _common(images, len(items) - len(images))


def pack(
    items: Sequence[Item | None], *, remove_background: bool = True, patch_drop_rate: float = 0.0
) -> Batch:
    """Return a batch of images end to end, as attention over variable lengths takes it.

    `img` (T, 1024), `coords` (T, 3), `filtered` (T,); images of a study follow each other.
    `series_cu_seqlens` (images + 1) and `study_cu_seqlens` (studies + 1), int32, say where each begins, and
    `series_max_len`, `study_max_len` how long the longest is. `patch_drop_rate` drops that share of each
    image's tokens at random, never all of them. An image without foreground has length 0. Besides, `size`,
    `label` and lists as in `pad`, with `studies` and `study_label` a study.
    """
    if not 0 <= patch_drop_rate < 1:
        raise UsageError(f"patch_drop_rate {patch_drop_rate}: from 0 to below 1")
    images = _tokenised(items)
    order = {study: place for place, study in enumerate(dict.fromkeys(item["study"] for item in images))}
    images.sort(key=lambda item: order[item["study"]])
    kept = [_kept(item, remove_background, patch_drop_rate) for item in images]
    lengths = [len(index) for index in kept]
    of_study = [
        sum(length for item, length in zip(images, lengths, strict=True) if item["study"] == study)
        for study in order
    ]
    empty = {
        "img": torch.zeros(0, FEATURES),
        "coords": torch.zeros(0, 3, dtype=torch.int64),
        "filtered": torch.zeros(0, dtype=torch.uint8),
    }
    firsts = [next(item for item in images if item["study"] == study) for study in order]
    return {
        **{
            key: torch.cat([nothing, *(item[key][index] for item, index in zip(images, kept, strict=True))])  # type: ignore[literal-required]
            for key, nothing in empty.items()
        },
        "series_cu_seqlens": _starts(lengths),
        "series_max_len": max(lengths, default=0),
        "study_cu_seqlens": _starts(of_study),
        "study_max_len": max(of_study, default=0),
        "studies": list(order),
        "study_label": _labels(firsts),
        **_common(images, len(items) - len(images)),
    }


def _tokenised(items: Sequence[Item | None]) -> list[Item]:
    images = [item for item in items if item is not None]
    if any(item["img"].dim() != 2 for item in images):
        raise UsageError("pad and pack take tokens: make the data set with tokenize=True")
    return images


def _kept(item: Item, remove_background: bool, drop_rate: float) -> torch.Tensor:
    """Return the indices of the tokens that stay, ascending."""
    index = torch.arange(len(item["img"]))
    if remove_background:
        index = index[item["filtered"] == 0]
    if drop_rate and len(index):
        stays = max(1, round(len(index) * (1 - drop_rate)))
        index = index[torch.randperm(len(index))[:stays].sort().values]
    return index


def _common(images: list[Item], skipped: int) -> Batch:
    return {
        "size": torch.stack([item["size"] for item in images])
        if images
        else torch.zeros(0, 3, dtype=torch.int64),
        "label": _labels(images),
        **{key: [item[key] for item in images] for key in ("path", "study", "mode", "window")},
        "skipped": skipped,
    }


def _labels(images: list[Item]) -> torch.Tensor | None:
    """Return (B,) or (B, labels) int64, None where the data set has no labels."""
    if not images or images[0]["label"] is None:
        return None
    return torch.tensor([item["label"] for item in images], dtype=torch.int64)


def _starts(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
