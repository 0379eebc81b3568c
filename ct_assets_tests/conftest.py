"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The shared development data; tests that ask for it are marked `real` and skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared development data is not here")
    return SHARED_DATA


@pytest.fixture
def secret_hex() -> str:
    """A fixed secret key, 64 hex digits."""
    return "00112233445566778899aabbccddeeff" * 2
