"""Batches of whole studies: together, equally many on every rank, exactly as many as promised."""

import json
import multiprocessing
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed
from torch.utils.data import DataLoader

from ct_assets.errors import UsageError
from ct_assets.neuro import ImageDataset, StudyAwareBatchSampler, pad
from ct_assets_tests.systems.neuro.factories import data_set


@dataclass
class Studies:
    """A data set of nothing but its index."""

    images: list[int]

    @property
    def image_index(self):
        return [
            (f"s{number}", f"i{n}", "ct") for number, count in enumerate(self.images) for n in range(count)
        ]

    def of(self, batch) -> set[str]:
        return {self.image_index[index][0] for index in batch}


images = st.lists(st.integers(1, 9), min_size=1, max_size=12)
options = st.fixed_dictionaries(
    {
        "shuffle": st.booleans(),
        "pack_studies": st.booleans(),
        "chunk_studies": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


class TestOneProcess:
    @settings(deadline=None)
    @given(images, st.integers(1, 8), options)
    def test_every_image_occurs_once_and_len_is_exact(self, counts, batch_size, chosen):
        studies = Studies(counts)
        sampler = StudyAwareBatchSampler(studies, batch_size, **chosen)
        batches = list(sampler)
        assert len(sampler) == len(batches)
        assert sorted(index for batch in batches for index in batch) == list(range(sum(counts)))

    @settings(deadline=None)
    @given(images, st.integers(1, 8), options)
    def test_a_study_is_in_one_batch_unless_it_is_larger_and_may_be_parted(self, counts, batch_size, chosen):
        studies = Studies(counts)
        batches = list(StudyAwareBatchSampler(studies, batch_size, **chosen))
        for number, count in enumerate(counts):
            holding = [batch for batch in batches if f"s{number}" in studies.of(batch)]
            parts = -(-count // batch_size) if chosen["chunk_studies"] and count > batch_size else 1
            assert len(holding) == parts
        for batch in batches:
            if len(batch) > batch_size:
                assert not chosen["chunk_studies"]
                assert len(studies.of(batch)) == 1
            if not chosen["pack_studies"]:
                assert len(studies.of(batch)) == 1

    def test_one_study_a_batch_by_default(self):
        assert list(StudyAwareBatchSampler(Studies([2, 1, 1]), 4, shuffle=False)) == [[0, 1], [2], [3]]

    def test_packing_fills_batches_with_whole_studies(self):
        assert list(StudyAwareBatchSampler(Studies([2, 1, 1]), 4, shuffle=False, pack_studies=True)) == [
            [0, 1, 2, 3]
        ]

    def test_an_epoch_has_its_own_order_and_a_seed_repeats_it(self):
        def batches(seed, epoch):
            sampler = StudyAwareBatchSampler(Studies([1] * 20), 1, seed=seed)
            sampler.set_epoch(epoch)
            return list(sampler)

        assert batches(0, 0) == batches(0, 0)
        assert len({str(batches(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4

    @pytest.mark.parametrize(
        "arguments", [{"batch_size": 0}, {"batch_size": 1, "num_replicas": 2, "rank": 2}]
    )
    def test_what_cannot_be_is_refused(self, arguments):
        with pytest.raises(UsageError):
            StudyAwareBatchSampler(Studies([1]), **arguments)


class TestRanks:
    @settings(deadline=None)
    @given(images, st.integers(1, 6), st.integers(1, 8), options, st.integers(0, 3))
    def test_equally_many_batches_that_together_hold_every_image(
        self, counts, batch_size, ranks, chosen, epoch
    ):
        studies = Studies(counts)
        shares = []
        for rank in range(ranks):
            sampler = StudyAwareBatchSampler(studies, batch_size, num_replicas=ranks, rank=rank, **chosen)
            promised = len(sampler)
            sampler.set_epoch(epoch)
            shares.append(list(sampler))
            assert len(shares[-1]) == promised == len(sampler)
        assert len({len(share) for share in shares}) == 1
        assert {index for share in shares for batch in share for index in batch} == set(range(sum(counts)))
        if ranks <= len(counts) and not chosen["pack_studies"]:
            owners = [{study for batch in share for study in studies.of(batch)} for share in shares]
            assert sum(map(len, owners)) == len(set().union(*owners)), "no study is on two ranks"

    def test_seven_studies_on_four_ranks(self):
        counts = {
            rank: len(list(StudyAwareBatchSampler(Studies([1] * 7), 1, num_replicas=4, rank=rank)))
            for rank in range(4)
        }
        assert counts == {0: 2, 1: 2, 2: 2, 3: 2}

    def test_more_ranks_than_twice_the_studies(self):
        shares = [
            list(StudyAwareBatchSampler(Studies([1, 1]), 1, num_replicas=9, rank=rank)) for rank in range(9)
        ]
        assert all(len(share) == 1 for share in shares)
        assert {share[0][0] for share in shares} == {0, 1}


def train_on_a_rank(rank: int, ranks: int, data_dir, folder) -> None:
    """What a process of a real training does: a collective operation after every batch."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store{ranks}", rank=rank, world_size=ranks
    )
    dataset = ImageDataset(data_dir, random_crop=True, augment=True)
    sampler = StudyAwareBatchSampler(dataset, batch_size=2, seed=1)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=pad)
    seen, totals, promised = [], [], len(loader)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch in loader:
            total = torch.tensor([batch["img"].shape[0]])
            distributed.all_reduce(total)
            seen += batch["study"]
            totals.append(int(total))
    (folder / f"{ranks}-{rank}.json").write_text(json.dumps([promised, seen, totals]))
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_real_processes_end_together(ranks, tmp_path):
    studies = {f"s{number}": ("ct" if number % 2 else "mri", 1 + number % 3) for number in range(5)}
    data_dir = data_set(tmp_path / "data", studies, shape=(32, 32, 16))
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=train_on_a_rank, args=(rank, ranks, data_dir, tmp_path))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
        assert process.exitcode == 0, "a rank that waits for others never ends"
    found = [json.loads((tmp_path / f"{ranks}-{rank}.json").read_text()) for rank in range(ranks)]
    batches = -(-5 // ranks)
    assert all(promised == batches and len(totals) == 2 * batches for promised, _, totals in found)
    assert len({str(totals) for _, _, totals in found}) == 1
    assert {study for _, seen, _ in found for study in seen} == set(studies)
