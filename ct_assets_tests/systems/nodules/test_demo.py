"""The demo of nodule detection keeps its hands off folders that no demo made."""

import pytest

from ct_assets.errors import UsageError
from ct_assets.systems.nodules import demo


def test_a_foreign_folder_is_refused_untouched_and_its_own_is_emptied(tmp_path):
    foreign = tmp_path / "study"
    foreign.mkdir()
    (foreign / "scan.dcm").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="nothing was touched"):
        demo.prepare_root(foreign)
    assert (foreign / "scan.dcm").read_bytes() == b"somebody's"
    own = tmp_path / "own"
    demo.prepare_root(own)
    (own / "old").touch()
    demo.prepare_root(own)
    assert [path.name for path in own.iterdir()] == [demo.SIGN]
