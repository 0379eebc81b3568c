"""The restricted spool: received files and results of each request, and how long they stay.

Belongs here: the folders of a request. Files are named by number, never by a name or value that came with them. What is
received identifies people: folders are 0700, nothing of them enters the cohort, a log line or the database.
"""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ct_assets import files
from ct_assets.serving.platform import Serving
from ct_assets.serving.store import DELIVERIES, EVENTS, JOBS

_ID = re.compile(r"[0-9a-f]{32}")
INSTANCES_NAME = "instances.json"
ORPHAN_S = 6 * 3600.0
"""A folder without a row is of an upload that was broken off; it may still go on for so long."""


class Spool:
    """The folders of all requests."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "spool"
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """Return the folder of a request. Raises `ValueError` for what is no identifier."""
        if not _ID.fullmatch(job_id):
            raise ValueError("no identifier of a request")
        return self.root / job_id

    def input(self, job_id: str) -> Path:
        """Return the folder of received files."""
        return self.folder(job_id) / "input"

    def output(self, job_id: str) -> Path:
        """Return the folder of results; it is there when they are complete."""
        return self.folder(job_id) / "output"

    def make(self, job_id: str) -> Path:
        """Make the folders of a new request and return the one for received files."""
        self.folder(job_id).mkdir(mode=0o700)
        self.input(job_id).mkdir(mode=0o700)
        return self.input(job_id)

    def remove(self, job_id: str) -> None:
        """Remove everything of a request."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def write_instances(self, job_id: str, instances: list[dict[str, Any]]) -> None:
        """Keep what became of each received file."""
        files.write_json(self.folder(job_id) / INSTANCES_NAME, instances, mode=0o600)

    def instances(self, job_id: str) -> list[dict[str, Any]]:
        """Return what became of each received file."""
        path = self.folder(job_id) / INSTANCES_NAME
        return files.read_json(path) if path.exists() else []


def expire(platform: Serving, now: float | None = None) -> int:
    """Remove inputs and requests whose time is over, and left-overs of broken uploads; return how many."""
    moment = time.time() if now is None else now
    settings, spool = platform.settings.serving, Spool(platform.settings.layout.serving)
    removed = 0
    ended = sa.select(JOBS.c.job_id, JOBS.c.ended_at).where(JOBS.c.ended_at.is_not(None))
    for row in platform.store.rows(ended):
        age_hours = (moment - row["ended_at"]) / 3600
        if age_hours >= settings.keep_results_hours:
            forget(platform, [row["job_id"]])
            removed += 1
        elif age_hours >= settings.keep_input_hours and spool.input(row["job_id"]).exists():
            shutil.rmtree(spool.input(row["job_id"]), ignore_errors=True)
            removed += 1
    known = {row["job_id"] for row in platform.store.rows(sa.select(JOBS.c.job_id))}
    for folder in spool.root.iterdir():
        if folder.name not in known and moment - folder.stat().st_mtime > ORPHAN_S:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def forget(platform: Serving, job_ids: list[str]) -> None:
    """Remove requests: files, results, row, events and webhook bodies."""
    spool = Spool(platform.settings.layout.serving)
    with platform.store.write() as connection:
        for table in (DELIVERIES, EVENTS, JOBS):
            connection.execute(table.delete().where(table.c.job_id.in_(job_ids)))
    for job_id in job_ids:
        spool.remove(job_id)
