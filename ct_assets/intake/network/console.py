"""What `ct-assets receive` does beside receiving: listing what waits, taking a person's decision.

Belongs here: the command's words. The library of the protocol is imported only where it is needed, with a
clear line where it is not installed.
"""

import os
from typing import TYPE_CHECKING

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.intake.network import settling
from ct_assets.reasons import explain
from ct_assets.settings import Settings
from ct_assets.storage import needs, session

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey

STORE_PATIENCE_S = 5.0
"""A store that is away must not hold up the hand-over to the inbox; it is asked again at the next look."""


def receive(settings: Settings, *, public: bool) -> None:
    """Run the receiver until it is stopped. Raises `UsageError` as `receiver.receive` does."""
    from ct_assets.intake.network import receiver

    if settings.service.logs == "json":
        os.environ[progress.JSON_LINES] = "json"
    copy = session.working_copy(settings, patience_seconds=STORE_PATIENCE_S)
    if copy is not None:
        copy.pull(needs.DELIVERIES)
    receiver.receive(
        settings.receive,
        settings.layout,
        _key(settings),
        public=public,
        handed_over=lambda: copy and copy.publish(skipped=needs.DATABASES),
    )


def listing(settings: Settings) -> list[str]:
    """Return a line a study that has arrived and is not delivered, and what it waits for."""
    lines = []
    for study in settling.open_studies(settings.layout):
        lines.append(
            f"{study.study}  {study.series} series, {study.objects} objects, {study.bytes / 1e6:.1f} MB"
            + (f", {study.sending} still being sent" if study.sending else "")
        )
        for code, count in sorted(study.broken.items()):
            lines.append(f"    {count} series: {code}. {explain([code])}")
        if study.lacking:
            lines.append(f"    {study.lacking} objects were begun or refused and have not arrived")
    return lines or ["nothing waits"]


def decide(settings: Settings, *, deliver: str | None, discard: str | None) -> str:
    """Take a decision about one study; the running receiver, or the next one, acts on it."""
    if deliver and discard:
        raise UsageError("--deliver and --discard: decide for one")
    decision = settling.DELIVER if deliver else settling.DISCARD
    study = deliver or discard or ""
    settling.decide(settings.layout, study, decision)
    return f"{study}: {decision}, as soon as nothing sends into it (by the running receiver, or the next one)"


def _key(settings: Settings) -> "SecretKey | None":
    from ct_assets.identity.key import ENVIRONMENT_VARIABLE, SecretKey

    has_key = settings.deid.key_file is not None or ENVIRONMENT_VARIABLE in os.environ
    return SecretKey.load(settings.deid.key_file) if has_key else None
