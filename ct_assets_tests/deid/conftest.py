"""Fixtures of de-identification that several tests share."""

from pathlib import Path

import pytest

from ct_assets_tests.deid.corpus.make import Corpus, make
from ct_assets_tests.deid.runs import Run, run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus of every hard case."""
    return make(tmp_path_factory.mktemp("corpus"), seed=11)


@pytest.fixture(scope="session")
def corpus_run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The corpus, de-identified with the shipped profile."""
    return run(corpus.input, Path(tmp_path_factory.mktemp("corpus_output")))
