"""Prepared slices: made once, named by what decides them, in the order of place in 2.5-D."""

import numpy as np
import polars as pl
import pytest

from ct_assets.errors import UsageError
from ct_assets.systems.brain import images, preprocess, slices
from ct_assets_tests.systems.brain.factories import config, data_set, prepared_of, table_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("data"), patients=4, slices=3)


@pytest.fixture(scope="module")
def table(root):
    return table_of(root)


class TestStore:
    def test_a_stored_slice_is_the_prepared_one_to_half_a_step(self, root, table, tmp_path):
        made = prepared_of(table, root, tmp_path)
        hu = slices.read(root / "CTs/ID_0011.dcm").hu
        expected = preprocess.prepare(hu, config(), 32)
        assert np.abs(made.read("ID_0011") - expected).max() <= 1 / 510 + 1e-6

    def test_it_is_made_once(self, root, table, tmp_path, monkeypatch):
        first = prepared_of(table, root, tmp_path)
        monkeypatch.setattr(images, "_prepare_one", None)
        assert prepared_of(table, root, tmp_path).path == first.path

    @pytest.mark.parametrize(
        "change", [{"windows": "brain_thirds"}, {"crop_pad": 2}, {"size": 48}, {"skull_percentile": 95.0}]
    )
    def test_another_preparation_is_another_store(self, root, table, tmp_path, change):
        assert prepared_of(table, root, tmp_path, **change).path != prepared_of(table, root, tmp_path).path

    def test_a_training_choice_is_no_other_store(self, root, table, tmp_path):
        assert prepared_of(table, root, tmp_path, lr_ft=0.5).path == prepared_of(table, root, tmp_path).path

    def test_a_killed_preparation_leaves_nothing(self, root, table, tmp_path, monkeypatch):
        monkeypatch.setattr(images, "_prepare_one", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepared_of(table, root, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_file_that_changed_since_is_named(self, tmp_path):
        fresh = data_set(tmp_path / "fresh", patients=2)
        made = table_of(fresh)
        (fresh / "CTs/ID_0010.dcm").write_bytes(b"gone")
        with pytest.raises(UsageError, match=r"ID_0010.dcm: could be read when"):
            prepared_of(made, fresh, tmp_path / "store")


class TestAdjacent:
    def test_neighbours_follow_the_position_and_end_at_the_ends(self, table):
        found = images.adjacent(table.filter(pl.col("id").str.starts_with("ID_001")))
        assert found == {
            "ID_0010": (None, "ID_0011"), "ID_0011": ("ID_0010", "ID_0012"), "ID_0012": ("ID_0011", None),
        }  # fmt: skip

    def test_names_and_order_of_rows_do_not_decide(self, table):
        backwards = table.with_columns(
            pl.col("position").list.eval(pl.element() * -1).alias("position")
        ).sort("id", descending=True)
        assert images.adjacent(backwards)["ID_0010"] == ("ID_0011", None)

    def test_without_a_place_there_is_no_neighbour(self, table):
        lost = table.with_columns(pl.lit(None, dtype=table.schema["position"]).alias("position"))
        assert images.adjacent(lost) == {}

    def test_the_channels_are_the_slice_before_the_slice_and_the_slice_after(self, root, table, tmp_path):
        made = prepared_of(table, root, tmp_path, windows="brain_adjacent")
        hu = [slices.read(root / f"CTs/ID_001{k}.dcm").hu for k in range(3)]
        expected = preprocess.prepare_adjacent(*hu, config(windows="brain_adjacent"), 32)
        assert np.abs(made.read("ID_0011") - expected).max() <= 1 / 510 + 1e-6
