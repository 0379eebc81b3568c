"""The data set as Lightning takes it: training and validation loaders over studies.

Belongs here: putting data set, sampler, collator and seeds together. A study is in training or in validation,
never in both; which, the caller says (from the platform's split ledger, say).

With several processes give the Trainer `use_distributed_sampler=False`: the sampler deals out studies itself.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader

from ct_assets.errors import UsageError
from ct_assets.settings.neuro import Normalisation, PreprocessingSettings, Stream
from ct_assets.systems.neuro.collate import pack, pad
from ct_assets.systems.neuro.dataset import DEFAULT_WINDOW_PROBABILITIES, ImageDataset
from ct_assets.systems.neuro.metadata import DatasetMetadata
from ct_assets.systems.neuro.sampler import StudyAwareBatchSampler

LARGE_PRIME = 1_000_003
"""Seeds of neighbouring ranks lie so far apart that those of their workers never meet."""


class ImageDataModule(lightning.LightningDataModule):
    """Loaders whose batches hold whole studies; training images are cropped and flipped at random."""

    def __init__(
        self,
        data_dir: str | Path,
        validation_studies: Sequence[str],
        batch_size: int = 8,
        *,
        train_studies: Sequence[str] | None = None,
        collate: Literal["pad", "pack"] = "pad",
        patch_drop_rate: float = 0.0,
        pack_studies: bool = False,
        random_crop: bool = True,
        augment: bool = True,
        ct_window_probs: Sequence[float] = DEFAULT_WINDOW_PROBABILITIES,
        study_labels: str | Path | Mapping[str, Any] | None = None,
        normalisation: Mapping[Stream, Normalisation] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        settings: PreprocessingSettings | None = None,
    ) -> None:
        """Describe the loaders; `train_studies` are by default all studies that do not validate.

        Raises `UsageError` for a study on both sides and for one that the data set does not have.
        """
        super().__init__()
        self.data_dir = Path(data_dir)
        known = list(DatasetMetadata.from_file(self.data_dir / "metadata.json").studies)
        self.validation_studies = list(validation_studies)
        self.train_studies = (
            [study for study in known if study not in set(validation_studies)]
            if train_studies is None
            else list(train_studies)
        )
        if both := sorted(set(self.train_studies) & set(self.validation_studies)):
            raise UsageError(f"studies both in training and in validation: {', '.join(both)}")
        self.batch_size, self.pack_studies, self.num_workers, self.seed = (
            batch_size,
            pack_studies,
            num_workers,
            seed,
        )
        self._collate_train: Callable[..., Any] = (
            partial(pack, patch_drop_rate=patch_drop_rate) if collate == "pack" else pad
        )
        self._collate_validation: Callable[..., Any] = pack if collate == "pack" else pad
        shared: dict[str, Any] = {
            "study_labels": study_labels,
            "normalisation": normalisation,
            "settings": settings,
        }
        self.train_dataset = ImageDataset(
            self.data_dir,
            studies=self.train_studies,
            random_crop=random_crop,
            augment=augment,
            ct_window_probs=ct_window_probs,
            **shared,
        )
        self.validation_dataset = ImageDataset(
            self.data_dir, studies=self.validation_studies, ct_window_probs=(1.0, 0.0, 0.0), **shared
        )

    def train_dataloader(self) -> DataLoader:
        """Return the shuffled loader of the training studies."""
        return self._loader(self.train_dataset, self._collate_train, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation studies: whole images, CT through the brain window, in order."""
        return self._loader(self.validation_dataset, self._collate_validation, shuffle=False)

    def _loader(self, dataset: ImageDataset, collate: Callable[..., Any], *, shuffle: bool) -> DataLoader:
        sampler = StudyAwareBatchSampler(
            dataset, self.batch_size, shuffle=shuffle, seed=self.seed, pack_studies=self.pack_studies
        )
        generator = torch.Generator().manual_seed(self.seed + LARGE_PRIME * self._rank())
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            generator=generator,
            multiprocessing_context=_context() if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
        )

    def _rank(self) -> int:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank()
        return 0


def _context() -> BaseContext:
    """Return a fork server that has loaded the data set's code.

    Forked copies of this process, where it has read DICOM headers, would share its threads' locks.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ct_assets.systems.neuro.collate"])
    return context
