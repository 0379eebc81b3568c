"""A withdrawal reaches requests, results and rows of the API, and leaves other people's alone."""

import pytest
import sqlalchemy as sa

from ct_assets import files, registry
from ct_assets.deid.elements.spelling import fold
from ct_assets.lifecycle.finder import Finder
from ct_assets.serving import withdrawal
from ct_assets.serving.spool import Spool
from ct_assets.serving.store import EVENTS, JOBS
from ct_assets_tests.serving import studies


@pytest.fixture
def sent(api):
    files.write_json(api.serving.settings.data_root / "models/stub/final/bundle.json", {"system": "lung"})

    def post(seed):
        body = studies.archive(studies.slices(seed=seed))
        headers = {**api.headers("operator"), "Content-Type": "application/zip"}
        return api.client.post("/v1/inference", content=body, headers=headers).json()["id"]

    return post


def left(api):
    rooms = Spool(api.serving.settings.layout.serving)
    return {path.name for path in rooms.root.iterdir()}, {
        row["job_id"] for row in api.serving.store.rows(sa.select(JOBS))
    }


def uid_of(seed):
    return studies.study_uid(studies.slices(1, seed=seed)[0])


def test_requests_of_the_person_go_by_their_uids(api, sent):
    theirs, others = sent("a"), sent("b")
    assert withdrawal.forget(api.serving.settings, Finder(frozenset({uid_of("a")}))) == 1
    assert left(api) == ({others}, {others})
    assert theirs not in {row["job_id"] for row in api.serving.store.rows(sa.select(EVENTS))}


def test_requests_of_the_person_go_by_their_name(api, sent):
    sent("a")
    name = fold(studies.NAME)
    assert withdrawal.forget(api.serving.settings, Finder(frozenset(), frozenset({name}))) == 1
    assert left(api) == (set(), set())


def test_results_without_their_input_are_found_by_the_series(api, sent):
    job = sent("a")
    rooms = Spool(api.serving.settings.layout.serving)
    files.remove_tree(rooms.input(job))
    files.remove_tree(rooms.folder(job) / "instances.json")
    files.write_json(rooms.output(job) / "1.2.840.99.7" / "stage.json", {})
    assert withdrawal.forget(api.serving.settings, Finder(frozenset({"1.2.840.99.7"}))) == 1
    assert left(api) == (set(), set())


def test_the_withdrawal_command_knows_it():
    assert "ct_assets.serving.withdrawal" in registry.HOLDERS
