"""The bundle of a system's model: a folder that needs nothing else to predict, whichever system made it.

Belongs here: what lies in the folder, writing, verifying and opening it. Does not: what goes into a final model
(`learning.models.final`), predicting (`System.predictor`).

The folder: `bundle.json` (configuration, classes, decisions, digests), for each member `<member>.safetensors` and its
small files `<member>.<name>`, `card.md`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.models import uses
from ct_assets.learning.system import Config, Member, Model, System
from ct_assets.settings.base import Section

BUNDLE_NAME = uses.BUNDLE_NAME
CARD_NAME = "card.md"
FORMAT = 2
FORMER_FORMAT = 1
"""Each system wrote a record of its own; what a system wrote it still reads (`former` of `load`)."""


class MemberFiles(Section):
    """One member's files in the bundle, by name below the folder."""

    name: str
    weights: str
    weights_sha256: str
    payload: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the small files beside the weights, by their own names."""


class BundleRecord(Section):
    """The content of `bundle.json`."""

    format: Literal[2] = 2
    system: str
    experiment: str
    kind: Literal["fold_ensemble", "single"]
    classes: tuple[str, ...]
    config: dict[str, Any]
    config_digest: str
    manifest_digest: str
    members: tuple[MemberFiles, ...]
    decisions: dict[str, Any]
    """Calibration and thresholds, frozen out of fold."""
    conventions: dict[str, str]
    """What input and output mean, in words."""
    versions: dict[str, str]
    """What the bundle was made with."""
    uses: dict[str, str] = Field(default_factory=dict)
    """Other bundles that it needs: digest by name (`learning.models.uses`)."""
    digest: str = ""
    """Digest of everything above."""

    def sealed(self) -> "BundleRecord":
        """Return the record with its digest set."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": files.digest_of(content)})


def write(
    folder: Path, draft: BundleRecord, members: tuple[Member, ...], card: Callable[[BundleRecord], str]
) -> BundleRecord:
    """Write a bundle with its card, replaced whole; return its record, complete and sealed.

    Raises `UsageError` where weights changed after their training.
    """
    written: list[BundleRecord] = []

    def fill(partial: Path) -> None:
        record = draft.model_copy(update={"members": write_members(partial, members)}).sealed()
        files.write_json(partial / BUNDLE_NAME, record.model_dump(mode="json"))
        files.write_text(partial / CARD_NAME, card(record))
        written.append(record)

    files.replace_directory(folder, fill)
    return written[0]


def write_members(folder: Path, members: tuple[Member, ...]) -> tuple[MemberFiles, ...]:
    """Copy members into a bundle's folder. Raises `UsageError` where weights changed after their training."""
    written = []
    for member in members:
        weights = f"{member.name}.safetensors"
        files.write_bytes(folder / weights, member.weights.read_bytes())
        if files.sha256_file(folder / weights) != member.weights_sha256:
            raise UsageError(f"{member.weights}: was changed after its training; train it again")
        payload = {}
        for name, content in sorted(member.payload.items()):
            files.write_bytes(folder / f"{member.name}.{name}", content)
            payload[name] = files.sha256_file(folder / f"{member.name}.{name}")
        written.append(
            MemberFiles(
                name=member.name, weights=weights, weights_sha256=member.weights_sha256, payload=payload
            )
        )
    return tuple(written)


def load(folder: Path, former: Callable[[dict[str, Any]], BundleRecord] | None = None) -> BundleRecord:
    """Read a bundle's record and verify its files against their digests.

    `former` turns the content of the system's own record of format 1 into today's. Raises `UsageError` naming the file
    that is missing, of another format, or not what the bundle was made with.
    """
    path = folder / BUNDLE_NAME
    if not path.exists():
        raise UsageError(f"{folder}: no {BUNDLE_NAME} in it; give the folder of a final model")
    content: dict[str, Any] = files.read_json(path)
    if content.get("format") not in ((FORMAT,) if former is None else (FORMAT, FORMER_FORMAT)):
        raise UsageError(
            f"{path}: bundle format {content.get('format')}, this program reads {FORMAT}; build the final model again"
        )
    if content.get("digest") != files.digest_of(
        {key: value for key, value in content.items() if key != "digest"}
    ):
        raise UsageError(f"{path}: was changed after it was made: its digest does not match")
    read = (
        former if former is not None and content["format"] == FORMER_FORMAT else BundleRecord.model_validate
    )
    record = read(content)
    for member in record.members:
        expected = {member.weights: member.weights_sha256} | {
            f"{member.name}.{name}": sha256 for name, sha256 in member.payload.items()
        }
        for name, sha256 in expected.items():
            if not (folder / name).is_file() or files.sha256_file(folder / name) != sha256:
                raise UsageError(
                    f"{folder / name}: is missing or not what the bundle was made with (SHA-256)"
                )
    return record


def open_model(
    system: System[Config], folder: Path, candidates: Mapping[str, Path] | None = None
) -> Model[Config]:
    """Return a bundle's model, verified; `candidates` are folders where bundles that it uses may lie."""
    record = load(folder)
    if record.system != system.name:
        raise UsageError(f"{folder / BUNDLE_NAME}: made by {record.system}, not by {system.name}")
    members = tuple(
        Member(
            member.name,
            folder / member.weights,
            member.weights_sha256,
            {name: (folder / f"{member.name}.{name}").read_bytes() for name in member.payload},
        )
        for member in record.members
    )
    used = uses.resolve(folder, (candidates or {}).values())
    config = system.config.model_validate(record.config)
    return Model(config, record.classes, members, record.digest, record.decisions, used)
