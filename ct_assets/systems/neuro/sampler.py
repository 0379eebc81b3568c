"""Batches that keep a study together, equally many on every rank.

Belongs here: which images form a batch, and which rank takes it. Does not: reading them.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Sampler

from ct_assets.errors import UsageError

Batch = list[int]
Unit = list[Batch]
"""Batches that stay on one rank: those of one study, or one batch of several small studies."""


class HasImageIndex(Protocol):
    """What the sampler needs to know of a data set: which study an item belongs to."""

    @property
    def image_index(self) -> Sequence[tuple[str, str, str]]:
        """(study, image, mode) of every item."""
        ...


class StudyAwareBatchSampler(Sampler[Batch]):
    """A batch sampler for `DataLoader(dataset, batch_sampler=...)`: all images of a study in one batch.

    By default a batch is one study. `pack_studies` fills batches with whole studies up to `batch_size`
    images. A study of more images than `batch_size` is a batch by itself, or with `chunk_studies` several
    batches in a row. Every rank gets equally many batches: whole studies are dealt out to the ranks, the
    emptiest first, and ranks that end up with fewer batches repeat some. All studies occur in every epoch.
    """

    def __init__(
        self,
        dataset: HasImageIndex,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        *,
        pack_studies: bool = False,
        chunk_studies: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        """Make a sampler; `num_replicas` and `rank` come from torch.distributed where they are not given."""
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: at least 1")
        if num_replicas is not None and not 0 <= (rank or 0) < num_replicas:
            raise UsageError(f"rank {rank}: of {num_replicas} replicas")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.pack_studies, self.chunk_studies = pack_studies, chunk_studies
        self._replicas, self._rank = num_replicas, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, the same number on every rank. Lightning calls this by itself."""
        self.epoch = epoch

    @property
    def sampler(self) -> "StudyAwareBatchSampler":
        """Itself: Lightning moves the epoch on of what it finds under this name of a batch sampler."""
        return self

    def __len__(self) -> int:
        """Return exactly how many batches this rank gives, which is what every other rank gives."""
        replicas, _ = self._world()
        return max((sum(map(len, share)) for share in self._shares(replicas)), default=0)

    def __iter__(self) -> Iterator[Batch]:
        replicas, rank = self._world()
        shares = self._shares(replicas)
        count = max(sum(map(len, share)) for share in shares)
        every = [batch for share in shares for unit in share for batch in unit]
        own = [batch for unit in shares[rank] for batch in unit]
        # A rank without a study of its own repeats those of others.
        spare = own or every[rank % len(every) :] + every[: rank % len(every)] if every else []
        while len(own) < count:
            own = [*own, *spare][:count]
        yield from own

    def _world(self) -> tuple[int, int]:
        if self._replicas is not None:
            return self._replicas, self._rank or 0
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_world_size(), torch.distributed.get_rank()
        return 1, 0

    def _shares(self, replicas: int) -> list[list[Unit]]:
        """Return each rank's units in the order of the epoch.

        Units go to the rank with the fewest batches, longest first, so that the number of batches a rank
        depends on the sizes of studies alone and is the same in every epoch.
        """
        random = np.random.default_rng([self.seed, self.epoch])
        units = self._units(random)
        by_length = sorted(range(len(units)), key=lambda index: -len(units[index]))
        shares: list[list[int]] = [[] for _ in range(replicas)]
        loads = [0] * replicas
        for index in by_length:
            emptiest = loads.index(min(loads))
            shares[emptiest].append(index)
            loads[emptiest] += len(units[index])
        place = random.permutation(len(units)) if self.shuffle else np.arange(len(units))
        return [[units[index] for index in sorted(share, key=lambda index: place[index])] for share in shares]

    def _units(self, random: np.random.Generator) -> list[Unit]:
        of_study: dict[str, Batch] = {}
        for index, (study, *_) in enumerate(self.dataset.image_index):
            of_study.setdefault(study, []).append(index)
        studies = list(of_study.values())
        if self.shuffle:
            studies = [
                [study[i] for i in random.permutation(len(study))]
                for study in (studies[i] for i in random.permutation(len(studies)))
            ]
        if self.pack_studies:
            return self._packed(studies)
        return [self._batches_of(study) for study in studies]

    def _batches_of(self, study: Batch) -> Unit:
        if len(study) <= self.batch_size or not self.chunk_studies:
            return [study]
        return [study[start : start + self.batch_size] for start in range(0, len(study), self.batch_size)]

    def _packed(self, studies: list[Batch]) -> list[Unit]:
        """Fill batches with whole studies: first fit, largest first, so that their number never changes."""
        units = [self._batches_of(study) for study in studies if len(study) > self.batch_size]
        bins: list[Batch] = []
        small = sorted((study for study in studies if len(study) <= self.batch_size), key=len, reverse=True)
        for study in small:
            room = next((one for one in bins if len(one) + len(study) <= self.batch_size), None)
            if room is None:
                bins.append(list(study))
            else:
                room.extend(study)
        return units + [[batch] for batch in bins]
