"""What the leak scan found in single objects: those are held, the rest of the batch goes on.

Belongs here: when that is safe, and moving an object from the staged output back to quarantine. Does not: the search
(`leak_scan`), decisions before the scan (`batch.dispositions`).

It is safe where every find is a known identifier in an element of a released object and at most half of the objects
are concerned: engine and scan then disagree about single values, and what is released has been searched without a
find. Old UIDs and birth dates in their own elements, finds in names, audit or page, or in most objects mean that a
rule failed: nothing is released.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson

from ct_assets.deid.batch.dispositions import QUARANTINED, RELEASED
from ct_assets.deid.batch.outcomes import Outcome
from ct_assets.deid.elements.rules import keyword_of
from ct_assets.deid.proof.leak_scan import Hit
from ct_assets.layout import DeidPaths

CODE = "identifier_found"
_TAG = re.compile(r"\(([0-9A-F]{8})\)")
_RESTRICTED_FILE_MODE = 0o600


def is_containable(hits: Sequence[Hit], released: int) -> bool:
    """Whether holding the objects with finds makes the rest safe."""
    objects = {hit.where for hit in hits}
    return all(hit.kind == "identifier" and hit.is_of_object and hit.element for hit in hits) and (
        2 * len(objects) <= released
    )


def hold(hits: Sequence[Hit], outcomes: Sequence[Outcome], staged: DeidPaths, input_dir: Path) -> None:
    """Put the objects with finds into quarantine and say so in the audit."""
    found = {hit.where for hit in hits}
    held = {one.planned.instance: one for one in outcomes if one.path and Path(one.path).name in found}
    for one in held.values():
        target = staged.quarantine / f"{one.planned.facts.sha256}.dcm"
        shutil.copyfile(input_dir / one.planned.facts.path, target)
        target.chmod(_RESTRICTED_FILE_MODE)
        (staged.dicom / one.path).unlink()
        _remove_empty(staged.dicom, (staged.dicom / one.path).parent)
        one.planned.disposition = QUARANTINED
        one.planned.reasons = (*one.planned.reasons, CODE)
        one.path, one.pixels_after, one.released_blake3 = "", None, None
    _rewrite_audit(staged.audit, held)


def _remove_empty(root: Path, folder: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _rewrite_audit(audit: Path, held: dict[str, Outcome]) -> None:
    beside = audit.with_name(f"{audit.name}.held")
    with audit.open("rb") as read, beside.open("wb") as written:
        for line in read:
            told = orjson.loads(line)
            one = held.get(told["new_sop_instance_uid"] or "")
            if one is not None and told["disposition"] == RELEASED:
                told |= {"disposition": QUARANTINED, "reasons": list(one.planned.reasons)}
                told |= {"pixel_digest_after": None, "released_blake3": None}
                line = orjson.dumps(told) + b"\n"
            written.write(line)
    beside.replace(audit)


def described(hits: Sequence[Hit], audit: Path) -> list[dict[str, str]]:
    """Return the finds for the report: object, element path, the rule that let it through; never the value."""
    wanted = {hit.where.removesuffix(".dcm") for hit in hits if hit.is_of_object}
    rules: dict[tuple[str, str], str] = {}
    if wanted and audit.exists():
        with audit.open("rb") as lines:
            for line in lines:
                told = orjson.loads(line)
                if told["new_sop_instance_uid"] in wanted:
                    rules |= {
                        (told["new_sop_instance_uid"], fate["path"]): f"{fate['rule']}: {fate['action']}"
                        for fate in told["elements"]
                    }
    return [_described(hit, rules) for hit in hits]


def _described(hit: Hit, rules: dict[tuple[str, str], str]) -> dict[str, str]:
    path = ".".join(_TAG.sub(lambda tag: f".{keyword_of(int(tag[1], 16))}", hit.element).split(".")[1:])
    name = hit.where.removesuffix(".dcm")
    rule = rules.get((name, path)) or rules.get((name, re.sub(r"\[\d+\]", "[*]", path)), "")
    return {
        "object": hit.where,
        "element": hit.element,
        "path": path,
        "rule": rule,
        "kind": hit.kind,
        "digest": hit.digest,
    }
