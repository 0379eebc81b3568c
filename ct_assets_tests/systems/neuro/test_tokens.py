"""Tokens: order, features, coordinates, background, and the exact way back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.neuro import detokenize, tokenize
from ct_assets.systems.neuro.tokens import background_tokens, coordinates, remove_background, size_of

sizes = st.tuples(*(st.integers(1, 3) for _ in range(3)))


def volume_of(size) -> torch.Tensor:
    d, h, w = size
    return torch.arange(d * 4 * h * 16 * w * 16, dtype=torch.float32).reshape(1, d * 4, h * 16, w * 16)


class TestOrder:
    def test_tokens_go_by_depth_then_height_then_width_and_features_likewise(self):
        volume = volume_of((2, 3, 2))
        tokens = tokenize(volume)
        assert tokens.shape == (12, 1024)
        for number, (d, h, w) in enumerate(np.ndindex(2, 3, 2)):
            patch = volume[0, 4 * d : 4 * d + 4, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16]
            assert torch.equal(tokens[number], patch.flatten())

    def test_coordinates_name_the_patch_of_each_token(self):
        assert coordinates((2, 1, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
        assert coordinates((2, 3, 2)).dtype == torch.int64

    def test_einops_reads_the_same_tokens(self):
        einops = pytest.importorskip("einops")
        volume = volume_of((2, 2, 3))
        pattern = "c (d p1) (h p2) (w p3) -> (d h w) (c p1 p2 p3)"
        assert torch.equal(tokenize(volume), einops.rearrange(volume, pattern, p1=4, p2=16, p3=16))


class TestInverse:
    @settings(deadline=None)
    @given(sizes)
    def test_detokenize_restores_every_voxel(self, size):
        volume = volume_of(size)
        assert size_of(volume) == size
        assert torch.equal(detokenize(tokenize(volume), size), volume)

    @settings(deadline=None)
    @given(sizes)
    def test_arrays_go_the_same_way_as_tensors(self, size):
        volume = volume_of(size)
        np.testing.assert_array_equal(tokenize(volume.numpy()), tokenize(volume).numpy())
        np.testing.assert_array_equal(detokenize(tokenize(volume.numpy()), size), volume.numpy())

    @pytest.mark.parametrize(
        "shape", [(4, 16, 16), (1, 5, 16, 16), (1, 4, 17, 16), (1, 4, 16, 8), (2, 4, 16, 16), (1, 0, 16, 16)]
    )
    def test_a_volume_that_is_not_whole_tokens_is_refused(self, shape):
        with pytest.raises(ValueError, match="whole tokens"):
            tokenize(torch.zeros(shape))

    def test_tokens_that_do_not_fill_the_size_are_refused(self):
        with pytest.raises(ValueError, match="8 tokens"):
            detokenize(torch.zeros(7, 1024), (2, 2, 2))


class TestBackground:
    def mask(self) -> torch.Tensor:
        """Three tokens along W: no background, one voxel of it, all of it."""
        mask = torch.zeros(1, 4, 16, 48, dtype=torch.uint8)
        mask[0, 2, 7, 20] = 1
        mask[..., 32:] = 1
        return mask

    def test_any_background_voxel_makes_a_background_token(self):
        filtered = background_tokens(self.mask())
        assert filtered.tolist() == [0, 1, 1]
        assert filtered.dtype == torch.uint8

    def test_the_rule_all_asks_for_every_voxel(self):
        assert background_tokens(self.mask(), "all").tolist() == [0, 0, 1]

    def test_removing_background_drops_the_tokens_themselves(self):
        volume = volume_of((1, 1, 3))
        tokens, coords, filtered = remove_background(
            tokenize(volume), coordinates((1, 1, 3)), background_tokens(self.mask())
        )
        assert torch.equal(tokens, tokenize(volume)[:1])
        assert coords.tolist() == [[0, 0, 0]]
        assert filtered.tolist() == [0]
