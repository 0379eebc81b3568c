"""The store: what was written is read back, in pieces or whole; damage and torn writes are never served."""

import numpy as np
import pytest

from ct_assets.imaging import store as stores
from ct_assets.imaging.store import DamagedEntryError, MissingEntryError, Store, key_of
from ct_assets.imaging.volume import Grid, Volume


@pytest.fixture
def volume() -> Volume:
    random = np.random.default_rng(0)
    array = random.integers(-1000, 1000, (40, 70, 90)).astype(np.int16)
    return Volume(array, Grid.of(array.shape, (0.7, 0.8, 1.5), (1.0, 2.0, 3.0)))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_an_entry_comes_back_whole_with_its_grid_and_facts(store, volume):
    store.put("ab12", volume, {"mean_hu": 3.5})
    entry = store.open("ab12")
    assert (entry.array() == volume.array).all()
    assert entry.grid.same_as(volume.grid)
    assert entry.facts == {"mean_hu": 3.5}


def test_a_box_is_read_with_air_where_it_reaches_beyond(store, volume):
    store.put("ab12", volume, {})
    box = store.open("ab12").read((-5, 60, -3), (20, 20, 20), -1000)
    assert (box[:5] == -1000).all()
    assert (box[:, 10:] == -1000).all()
    assert (box[..., :3] == -1000).all()
    assert (box[5:, :10, 3:] == volume.array[:15, 60:70, :17]).all()


def test_a_box_wholly_outside_is_air(store, volume):
    store.put("ab12", volume, {})
    assert (store.open("ab12").read((50, 80, 100), (8, 8, 8), -1000) == -1000).all()


def test_the_same_volume_gives_the_same_bytes(store, volume, tmp_path):
    other = Store(tmp_path / "other")
    store.put("ab12", volume, {"b": 1, "a": 2})
    other.put("ab12", volume, {"a": 2, "b": 1})
    for suffix in (".b2nd", ".json"):
        paths = [one.path("ab12").with_suffix(suffix) for one in (store, other)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_damaged_chunk_is_noticed(store, volume):
    store.put("ab12", volume, {})
    path = store.path("ab12")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not store.is_sound("ab12")
    with pytest.raises(DamagedEntryError, match="checksum"):
        store.open("ab12")


def test_a_torn_write_is_no_entry(store, volume):
    store.put("ab12", volume, {})
    store.path("ab12").with_suffix(".json").unlink()
    assert store.all_keys() == []
    with pytest.raises(MissingEntryError):
        store.open("ab12")


def test_a_file_that_was_cut_off_is_noticed(store, volume):
    store.put("ab12", volume, {})
    path = store.path("ab12")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedEntryError):
        store.open("ab12")


def test_hits_misses_and_bytes_are_counted(store, volume):
    assert not store.is_sound("ab12")
    size = store.put("ab12", volume, {})
    assert store.is_sound("ab12")
    assert store.stats() == {"hits": 1, "misses": 1, "entries": 1, "bytes": size}


def test_what_nobody_names_is_freed(store, volume):
    store.put("ab12", volume, {})
    size = store.put("cd34", volume, {})
    assert store.unnamed(["ab12", "ef56"]) == ["cd34"]
    assert store.remove(store.unnamed(["ab12"])) == size
    assert store.all_keys() == ["ab12"]


def test_a_key_changes_with_every_part():
    keys = {key_of("image", "digest", [1.5, 1.5, 2.0]), key_of("image", "digest", [1.5, 1.5, 2.5])}
    keys |= {key_of("label", "digest", [1.5, 1.5, 2.0]), key_of("image", "other", [1.5, 1.5, 2.0])}
    assert len(keys) == 4


def test_chunks_are_as_measured():
    assert (stores.CHUNK, stores.BLOCK) == (32, 16)
