"""A bundle names the bundles that it needs by digest; another version of the same model is no replacement."""

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.models.bundle import Bundle
from ct_assets.learning.models.uses import resolve


def write(folder, digest, **uses):
    files.write_json(folder / "bundle.json", {"digest": digest, **({"uses": uses} if uses else {})})
    return folder


def test_it_is_found_by_digest_whatever_its_folder_is_called(tmp_path):
    flow = write(tmp_path / "flow", "f" * 64, vae="a" * 64)
    vaes = [write(tmp_path / name, digit * 64) for name, digit in (("newer", "b"), ("older", "a"))]
    assert resolve(flow, vaes) == {"vae": tmp_path / "older"}


def test_a_copy_inside_the_bundle_comes_first(tmp_path):
    flow = write(tmp_path / "flow", "f" * 64, vae="a" * 64)
    inside = write(flow / "uses/vae", "a" * 64)
    assert resolve(flow, [write(tmp_path / "vae", "a" * 64)]) == {"vae": inside}


def test_another_version_is_refused_by_digest_with_the_way_out(tmp_path):
    flow = write(tmp_path / "flow", "f" * 64, vae="a" * 64)
    with pytest.raises(
        UsageError, match=r"uses the bundle vae of digest aaaaaaaaaaaa, which is not there; put it"
    ):
        resolve(flow, [write(tmp_path / "vae", "b" * 64)])


def test_one_that_uses_none_needs_none_and_its_digest_is_what_it_was():
    assert Bundle.model_fields["uses"].exclude_if({})
