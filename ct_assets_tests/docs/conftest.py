"""The session's checkout, for the pages."""

import pytest

from ct_assets_tests.docs.sandbox import Sandbox, session_folder, with_demo


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A checkout in which the demo has run."""
    return with_demo(session_folder(tmp_path_factory.getbasetemp()))
