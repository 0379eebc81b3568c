"""Bundles that a bundle needs, named by digest: a flow in the latent space of one autoencoder and of no other.

Belongs here: finding them. `bundle.json` of any system may have `uses`: a bundle's digest by the name it is used under.
Does not: opening and verifying a bundle, which its system does.
"""

from collections.abc import Iterable
from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError

BUNDLE_NAME = "bundle.json"
USES_DIR = "uses"
"""Folder inside a bundle that may hold a copy of what it uses, by name."""


def resolve(folder: Path, candidates: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the folder of each bundle that the one in `folder` uses, by name.

    Looked for inside the bundle (`uses/<name>`) first, then among `candidates`. Raises `UsageError` naming the digest
    where none has it: another version of the same model is no replacement.
    """
    wanted = files.read_json(folder / BUNDLE_NAME).get("uses", {})
    others = list(candidates)
    found = {}
    for name, digest in sorted(wanted.items()):
        places = [folder / USES_DIR / name, *others]
        match = next((place for place in places if _digest_of(place) == digest), None)
        if match is None:
            raise UsageError(
                f"{folder / BUNDLE_NAME}: uses the bundle {name} of digest {digest[:12]}, which is not there; put it "
                f"into {folder / USES_DIR / name}, or build both again"
            )
        found[name] = match
    return found


def _digest_of(folder: Path) -> str | None:
    path = folder / BUNDLE_NAME
    return str(files.read_json(path).get("digest")) if path.is_file() else None
