"""The data set: items, windows, crops, augmentation, labels, bad samples."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

from ct_assets.errors import UsageError
from ct_assets.neuro import ImageDataset, detokenize
from ct_assets.settings.neuro import Normalisation
from ct_assets.systems.neuro import augment as changes
from ct_assets.systems.neuro.tokens import background_tokens, coordinates, size_of, tokenize
from ct_assets_tests.systems.neuro.factories import data_set

STUDIES = {"one": ("ct", 1), "two": ("mri", 2), "three": ("ct", 1)}
KEYS = {"img", "coords", "filtered", "size", "path", "label", "study", "mode", "window"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("data"), STUDIES)


class TestItem:
    def test_keys_shapes_and_types(self, data_dir):
        item = ImageDataset(data_dir)[0]
        assert set(item) == KEYS
        assert item["img"].shape == (8 * 4 * 3, 1024)
        assert item["img"].dtype == torch.float32
        assert item["coords"].shape == (96, 3)
        assert item["filtered"].shape == (96,)
        assert item["filtered"].dtype == torch.uint8
        assert item["size"].tolist() == [8, 4, 3]
        assert item["path"] == "raw/one/image0.nii.gz"
        assert (item["study"], item["mode"], item["label"]) == ("one", "ct", None)
        assert item["window"] in ("brain", "blood", "bone")

    def test_mr_has_no_window(self, data_dir):
        assert ImageDataset(data_dir, mode_filter="mri")[0]["window"] is None

    def test_without_tokens_the_volume_itself_comes(self, data_dir):
        chances = (1.0, 0.0, 0.0)
        volume = ImageDataset(data_dir, tokenize=False, ct_window_probs=chances)[0]
        tokens = ImageDataset(data_dir, ct_window_probs=chances)[0]
        assert volume["img"].shape == (1, 32, 64, 48)
        assert torch.equal(detokenize(tokens["img"], tokens["size"]), volume["img"])

    def test_cache_and_raw_file_give_the_same_item_to_half_a_step(self, data_dir):
        for index in range(2):
            cached, raw = (
                ImageDataset(data_dir, use_cache=use, mode_filter="mri")[index] for use in (True, False)
            )
            assert float((cached["img"] - raw["img"]).abs().max()) <= 0.5 / 255 + 1e-6
            assert torch.equal(cached["filtered"], raw["filtered"])

    def test_the_mode_filter_and_the_choice_of_studies(self, data_dir):
        assert [study for study, *_ in ImageDataset(data_dir, mode_filter="CT").image_index] == [
            "one",
            "three",
        ]
        assert len(ImageDataset(data_dir, studies=["two"])) == 2
        with pytest.raises(UsageError, match="four"):
            ImageDataset(data_dir, studies=["four"])
        with pytest.raises(ValueError, match="'ct' or 'mri'"):
            ImageDataset(data_dir, mode_filter="pet")

    def test_streams_are_standardised_where_asked(self, data_dir):
        plain = ImageDataset(data_dir, ct_window_probs=(0, 1, 0))[0]["img"]
        normalisation = {"blood": Normalisation(mean=0.2, std=0.5), "mri": Normalisation(mean=9, std=9)}
        found = ImageDataset(data_dir, ct_window_probs=(0, 1, 0), normalisation=normalisation)[0]["img"]
        torch.testing.assert_close(found, (plain - 0.2) / 0.5)
        bone = ImageDataset(data_dir, ct_window_probs=(0, 0, 1), normalisation=normalisation)[0]["img"]
        assert torch.equal(bone, ImageDataset(data_dir, ct_window_probs=(0, 0, 1))[0]["img"])


class TestWindows:
    def test_windows_come_as_often_as_their_chances_say(self, data_dir):
        torch.manual_seed(20)
        dataset = ImageDataset(data_dir, mode_filter="ct")
        drawn = Counter(dataset._drawn_window() for _ in range(6000))
        expected = [6000 * share for share in (0.7, 0.15, 0.15)]
        assert stats.chisquare([drawn[name] for name in ("brain", "blood", "bone")], expected).pvalue > 1e-3

    @pytest.mark.parametrize("chances", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.1, -0.1)])
    def test_chances_that_are_none_are_refused(self, data_dir, chances):
        with pytest.raises(UsageError, match="ct_window_probs"):
            ImageDataset(data_dir, ct_window_probs=chances)

    def test_workers_draw_apart_and_epochs_too(self, data_dir):
        dataset = ImageDataset(data_dir, mode_filter="ct", ct_window_probs=(0.34, 0.33, 0.33))
        dataset.image_index = dataset.image_index[:1] * 32
        loader = DataLoader(
            dataset,
            batch_size=1,
            num_workers=2,
            collate_fn=lambda items: items[0]["window"],
            generator=torch.Generator().manual_seed(3),
        )
        first, second = list(loader), list(loader)
        # The batches go to the two workers in turn.
        assert first[::2] != first[1::2]
        assert first != second


class TestCrop:
    def test_a_crop_is_whole_tokens_with_a_tenth_of_foreground(self):
        torch.manual_seed(0)
        volume = torch.rand(1, 24 * 4, 3 * 16, 3 * 16)
        mask = torch.ones_like(volume, dtype=torch.uint8)
        mask[:, 40:56] = 0
        for _ in range(40):
            part, background = changes.random_crop(volume, mask)
            size = size_of(part)
            assert all(1 <= n <= most for n, most in zip(size, (24, 3, 3), strict=True))
            assert part.shape == background.shape
            if size != (24, 3, 3):
                assert size[0] <= 20
                assert float((background_tokens(background) == 0).float().mean()) >= 0.1

    def test_without_foreground_the_whole_volume_stays(self):
        volume = torch.rand(1, 8, 32, 32)
        part, _ = changes.random_crop(volume, torch.ones_like(volume, dtype=torch.uint8))
        assert part is volume

    def test_the_background_is_cropped_with_the_image(self):
        torch.manual_seed(1)
        volume = torch.rand(1, 32, 64, 64)
        for _ in range(20):
            part, background = changes.random_crop(volume, (volume < 0.001).to(torch.uint8), "all")
            assert torch.equal(background, (part < 0.001).to(torch.uint8))

    def test_items_stay_consistent(self, data_dir):
        torch.manual_seed(2)
        dataset = ImageDataset(data_dir, random_crop=True, augment=True)
        sizes = set()
        for _ in range(30):
            item = dataset[0]
            size = tuple(item["size"].tolist())
            sizes.add(size)
            assert len(item["img"]) == np.prod(size) == len(item["filtered"])
            assert torch.equal(item["coords"], coordinates(size))
        assert len(sizes) > 5


class TestAugmentation:
    @pytest.mark.parametrize("flips", [[], [1], [2], [3], [1, 3], [1, 2, 3]])
    @pytest.mark.parametrize("swap", [False, True])
    def test_image_background_size_and_coordinates_follow_together(self, flips, swap):
        # The voxel's own place is its value, so that every token can be asked where it came from.
        size = (2, 3, 2)
        shape = (8, 48, 32)
        index = torch.arange(np.prod(shape)).reshape(1, *shape)
        mask = (index % 7 == 0).to(torch.uint8)
        moved, background = changes.turned(index, flips, swap), changes.turned(mask, flips, swap)
        new_size = size_of(moved)
        assert new_size == ((2, 2, 3) if swap else size)
        assert torch.equal(background, (moved % 7 == 0).to(torch.uint8))
        tokens = tokenize(moved)
        for (d, h, w), token in zip(coordinates(new_size).tolist(), tokens, strict=True):
            was = [d, w, h] if swap else [d, h, w]
            was = [
                n - 1 - at if axis + 1 in flips else at
                for axis, (at, n) in enumerate(zip(was, size, strict=True))
            ]
            d0, j0, i0 = np.unravel_index(int(token[0]), shape)
            assert [d0 // 4, j0 // 16, i0 // 16] == was

    def test_each_flip_and_the_swap_happen_half_of_the_time(self):
        torch.manual_seed(5)
        volume = torch.arange(4 * 16 * 32, dtype=torch.float32).reshape(1, 4, 16, 32)
        seen = Counter()
        for _ in range(800):
            moved, _ = changes.random_flips(volume, torch.zeros_like(volume, dtype=torch.uint8))
            seen[(moved.shape[2] == 32, float(moved[0, 0, 0, 0]))] += 1
        assert len(seen) == 16
        assert stats.chisquare(list(seen.values())).pvalue > 1e-3


class TestLabels:
    def test_every_image_of_a_study_has_its_label(self, data_dir, tmp_path):
        (tmp_path / "labels.csv").write_text("study_id,a,b\none,1,0\ntwo,0,1\nthree,0,0\n")
        dataset = ImageDataset(data_dir, study_labels=tmp_path / "labels.csv")
        assert [(item["study"], item["label"]) for item in dataset] == [
            ("one", (1, 0)),
            ("three", (0, 0)),
            ("two", (0, 1)),
            ("two", (0, 1)),
        ]

    def test_a_study_without_label_is_refused_or_left_out_never_given_a_zero(self, data_dir):
        with pytest.raises(UsageError, match="three"):
            ImageDataset(data_dir, study_labels={"one": 1, "two": 0})
        dataset = ImageDataset(data_dir, study_labels={"one": 1, "two": 0}, unknown_label="leave_out")
        assert dataset.left_out == ["three"]
        assert {item["study"] for item in dataset} == {"one", "two"}


class TestBadSamples:
    def test_an_unreadable_image_is_none_and_counted(self, tmp_path):
        data_dir = data_set(tmp_path, {"one": ("ct", 2)}, cached=False)
        path = data_dir / "raw/one/image0.nii.gz"
        path.write_bytes(b"broken")
        dataset = ImageDataset(data_dir)
        assert dataset[0] is None
        assert dataset[1] is not None
        assert dataset.skipped == {"raw/one/image0.nii.gz": "unreadable_image"}

    def test_without_cache_and_fallback_nothing_is_read(self, tmp_path):
        data_dir = data_set(tmp_path, {"one": ("ct", 1)}, cached=False)
        dataset = ImageDataset(data_dir, fallback_to_raw=False)
        assert len(dataset) == 1
        assert dataset[0] is None
        assert dataset.skipped == {"raw/one/image0.nii.gz": "not_cached"}
