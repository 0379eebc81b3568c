"""Batches: padded or packed; what torch's own collator cannot do."""

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from ct_assets.errors import UsageError
from ct_assets.neuro import ImageDataset, TinyEncoder, pack, pad
from ct_assets_tests.systems.neuro.factories import data_set


def item(study: str, tokens: int, background: int = 0, label=None, window=None) -> dict:
    """An image whose token n is filled with n; the last `background` ones are background."""
    return {
        "img": torch.arange(tokens, dtype=torch.float32)[:, None].expand(tokens, 1024),
        "coords": torch.stack([torch.arange(tokens)] * 3, dim=1),
        "filtered": torch.tensor([0] * (tokens - background) + [1] * background, dtype=torch.uint8),
        "size": torch.tensor([tokens, 1, 1]),
        "path": f"{study}.nii.gz",
        "label": label,
        "study": study,
        "mode": "mri" if window is None else "ct",
        "window": window,
    }


def test_the_default_collator_fails_on_such_items():
    with pytest.raises((TypeError, RuntimeError)):
        default_collate([item("a", 2), item("b", 3, window="brain")])


class TestPad:
    def test_shapes_and_what_is_padding(self):
        batch = pad([item("a", 2, 1), item("b", 3, window="brain")])
        assert batch["img"].shape == (2, 3, 1024)
        assert batch["mask"].tolist() == [[True, True, False], [True, True, True]]
        assert batch["filtered"].tolist() == [[0, 1, 1], [0, 0, 0]]
        assert batch["img"][:, :, 0].tolist() == [[0, 1, 0], [0, 1, 2]]
        assert batch["coords"][1, 2].tolist() == [2, 2, 2]
        assert batch["size"].tolist() == [[2, 1, 1], [3, 1, 1]]
        assert batch["window"] == [None, "brain"]
        assert batch["mode"] == ["mri", "ct"]
        assert batch["label"] is None

    def test_background_is_dropped_where_asked(self):
        batch = pad([item("a", 4, 2), item("b", 3, 2)], remove_background=True)
        assert batch["img"].shape == (2, 2, 1024)
        assert batch["mask"].sum(dim=1).tolist() == [2, 1]

    def test_unreadable_images_are_left_out_and_counted(self):
        batch = pad([None, item("a", 2), None])
        assert batch["img"].shape[0] == 1
        assert batch["skipped"] == 2

    def test_a_batch_of_nothing_has_the_right_shapes(self):
        batch = pad([None])
        assert batch["img"].shape == (0, 0, 1024)
        assert batch["size"].shape == (0, 3)
        assert batch["skipped"] == 1

    @pytest.mark.parametrize(("label", "shape"), [(1, (2,)), ((1, 0, 1), (2, 3))])
    def test_labels_are_whole_numbers(self, label, shape):
        batch = pad([item("a", 2, label=label), item("b", 2, label=label)])
        assert batch["label"].shape == shape
        assert batch["label"].dtype == torch.int64

    def test_padding_changes_no_feature(self):
        model = TinyEncoder()
        items = [item("a", 2), item("b", 5)]
        batch = pad(items)
        together = model(batch["img"], batch["coords"], batch["mask"])
        alone = torch.cat([model(one["img"][None], one["coords"][None]) for one in items])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


class TestPack:
    def test_images_of_a_study_follow_each_other_and_lengths_add_up(self):
        batch = pack([item("a", 4, 1, label=1), item("b", 5, 0, label=0), item("a", 3, 2, label=1)])
        assert batch["study"] == ["a", "a", "b"]
        assert batch["series_cu_seqlens"].tolist() == [0, 3, 4, 9]
        assert batch["study_cu_seqlens"].tolist() == [0, 4, 9]
        assert batch["series_max_len"] == 5
        assert batch["study_max_len"] == 5
        assert batch["series_cu_seqlens"].dtype == torch.int32
        assert batch["img"][:, 0].tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]
        assert batch["filtered"].sum() == 0
        assert batch["studies"] == ["a", "b"]
        assert batch["study_label"].tolist() == [1, 0]
        assert batch["label"].tolist() == [1, 1, 0]

    def test_background_may_stay(self):
        batch = pack([item("a", 4, 3)], remove_background=False)
        assert batch["filtered"].tolist() == [0, 1, 1, 1]

    def test_a_share_of_the_tokens_is_dropped_at_random_in_order(self):
        torch.manual_seed(0)
        kept = [pack([item("a", 10)], patch_drop_rate=0.4)["img"][:, 0].tolist() for _ in range(20)]
        assert all(len(one) == 6 and one == sorted(one) for one in kept)
        assert len({tuple(one) for one in kept}) > 10

    def test_never_all_tokens_of_an_image_are_dropped(self):
        assert pack([item("a", 3)], patch_drop_rate=0.99)["series_cu_seqlens"].tolist() == [0, 1]

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
    def test_a_rate_that_is_none_is_refused(self, rate):
        with pytest.raises(UsageError, match="patch_drop_rate"):
            pack([item("a", 3)], patch_drop_rate=rate)

    def test_a_batch_of_nothing_and_an_image_without_foreground(self):
        assert pack([None])["series_cu_seqlens"].tolist() == [0]
        assert pack([item("a", 2, 2), item("a", 2)])["series_cu_seqlens"].tolist() == [0, 0, 2]


def test_loops_over_both_collators(tmp_path):
    data_dir = data_set(tmp_path, {"one": ("ct", 1), "two": ("mri", 2)})
    for collate in (pad, pack):
        loader = DataLoader(ImageDataset(data_dir), batch_size=2, shuffle=True, collate_fn=collate)
        assert sum(len(batch["path"]) for batch in loader) == 3


def test_volumes_without_tokens_are_refused_clearly(tmp_path):
    data_dir = data_set(tmp_path, {"one": ("ct", 1)})
    with pytest.raises(UsageError, match="tokenize"):
        pad([ImageDataset(data_dir, tokenize=False)[0]])
