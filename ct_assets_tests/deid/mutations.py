"""Seeded damage to DICOM files: bytes, lengths, VRs, structure, and identifiers where nobody expects them."""

import io
import random
import struct
from collections.abc import Callable

import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ct_assets_tests.deid.corpus.people import Person

TEXT_VRS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_TEXT_TAGS = sorted(tag for tag, entry in DicomDictionary.items() if entry[0] in TEXT_VRS and tag >> 16 > 2)
_SEQUENCE_TAGS = sorted(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ" and tag >> 16 > 2)
_ANY_TAGS = sorted(tag for tag in DicomDictionary if 8 <= tag >> 16 < 0x5000)
_CHARSETS = (
    "",
    "ISO_IR 100",
    "ISO_IR 192",
    "GB18030",
    "ISO 2022 IR 87",
    "ISO_IR 999",
    "\\ISO 2022 IR 149",
    "utf8",
)
_CODES = (b"LO", b"PN", b"SQ", b"UN", b"OB", b"US", b"DS", b"XX", b"\0\0", b"UT", b"UI")

Damage = Callable[[bytes, random.Random, Person], bytes]


def mutated(content: bytes, dice: random.Random, person: Person) -> bytes:
    """Return the file after one to three kinds of damage."""
    for _ in range(dice.randint(1, 3)):
        content = dice.choice(DAMAGES)(content, dice, person)
    return content


# Bytes


def flip_bytes(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Change some bytes of the header."""
    changed = bytearray(content)
    end = min(len(changed), 4000)
    for _ in range(dice.randint(1, 12)):
        if end > 140:
            changed[dice.randrange(128, end)] = dice.randrange(256)
    return bytes(changed)


def cut(content: bytes, dice: random.Random, _: Person) -> bytes:
    """End the file early, anywhere."""
    return content[: dice.randrange(len(content) + 1)]


def repeat_a_stretch(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Write a stretch of the file twice."""
    start = dice.randrange(132, max(len(content), 133))
    stretch = content[start : start + dice.randrange(1, 300)]
    return content[:start] + stretch + content[start:]


def lose_a_stretch(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Leave a stretch of the file out."""
    start = dice.randrange(132, max(len(content), 133))
    return content[:start] + content[start + dice.randrange(1, 80) :]


def wrong_vr(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Write another VR where one stands."""
    places = [place for code in (b"LO", b"SH", b"PN", b"DA", b"UI", b"SQ") for place in _all(content, code)]
    if not places:
        return content
    place = dice.choice(places)
    return content[:place] + dice.choice(_CODES) + content[place + 2 :]


def wrong_length(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Claim another length: odd, huge, undefined, nothing."""
    places = [
        place + 2 for code in (b"LO", b"SH", b"PN", b"DA", b"UI", b"CS") for place in _all(content, code)
    ]
    if not places:
        return content
    place = dice.choice(places)
    claimed = dice.choice((0, 1, 3, 255, 0xFFFF, 0xFFFE))
    return content[:place] + struct.pack("<H", claimed) + content[place + 2 :]


def other_transfer_syntax(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Claim a transfer syntax that is not that of the data set."""
    mine = b"1.2.840.10008.1.2.1\0"
    other = dice.choice(
        (
            b"1.2.840.10008.1.2\0\0\0",
            b"1.2.840.10008.1.2.2\0",
            b"1.2.840.10008.1.2.5\0",
            b"1.2.3.4.5.6.7.8.9.1.2",
        )
    )
    return content.replace(mine, other[:20].ljust(20, b"\0"), 1)


def no_preamble(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Write the data set alone, as old archives do."""
    start = content.find(b"\x08\x00\x05\x00", 132)
    return content[start:] if start > 0 and dice.random() < 0.5 else content[128:]


# Elements


def identifier_anywhere(content: bytes, dice: random.Random, person: Person) -> bytes:
    """Put a known identifier into any text element of the dictionary, at the root or inside a sequence."""

    def edit(dataset: Dataset) -> None:
        for _ in range(dice.randint(1, 6)):
            tag = dice.choice(_TEXT_TAGS)
            vr = DicomDictionary[tag][0]
            _place(dataset, dice).add_new(tag, vr, _sentence(vr, dice, person))

    return _edited(content, edit)


def identifier_in_a_private_block(content: bytes, dice: random.Random, person: Person) -> bytes:
    """Put an identifier into private elements, with and without a creator, as text and as bytes."""

    def edit(dataset: Dataset) -> None:
        group = dice.randrange(9, 0x7FF) * 2 + 1
        block = dice.randrange(0x10, 0x100)
        where = _place(dataset, dice)
        if dice.random() < 0.7:
            where.add_new(
                Tag(group, block),
                "LO",
                dice.choice(("SIEMENS CSA HEADER", "ELSCINT1", "HERE", person.family)),
            )
        secret = dice.choice([person.family, person.patient_id])
        element = Tag(group, block << 8 | dice.randrange(256))
        encoded = secret.encode(dice.choice(("utf-8", "utf-16-le", "utf-16-be")))
        where.add_new(element, "UN", bytes(dice.randrange(4)) + encoded + b"\0" * dice.randrange(4))

    return _edited(content, edit)


def deep_sequences(content: bytes, dice: random.Random, person: Person) -> bytes:
    """Nest sequences many times, with a name at the bottom."""

    def edit(dataset: Dataset) -> None:
        item = Dataset()
        item.PatientName = person.written_name
        for _ in range(dice.randint(2, 30)):
            outer = Dataset()
            outer.add_new(dice.choice(_SEQUENCE_TAGS), "SQ", [item])
            item = outer
        dataset.update(item)

    return _edited(content, edit)


def wrong_values(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Put nonsense into elements of any VR."""

    def edit(dataset: Dataset) -> None:
        for _ in range(dice.randint(1, 8)):
            tag = dice.choice(_ANY_TAGS)
            if DicomDictionary[tag][0] == "SQ" or tag in (0x00080016, 0x00080018):
                continue
            junk = bytes(dice.randrange(256) for _ in range(dice.randrange(0, 40) * 2))
            dataset.add_new(tag, "UN", junk)

    return _edited(content, edit)


def missing_elements(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Take out elements that everybody relies on."""

    def edit(dataset: Dataset) -> None:
        for tag in dice.sample(list(dataset.keys()), k=min(len(dataset), dice.randint(1, 6))):
            del dataset[tag]

    return _edited(content, edit)


def other_character_set(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Claim another character set."""

    def edit(dataset: Dataset) -> None:
        claimed = dice.choice(_CHARSETS).encode()
        dataset.add_new(0x00080005, "UN", claimed + b" " * (len(claimed) % 2))

    return _edited(content, edit)


def huge_private_element(content: bytes, dice: random.Random, person: Person) -> bytes:
    """Add a private element of a megabyte with a name in its middle."""

    def edit(dataset: Dataset) -> None:
        filler = bytes(dice.randrange(256) for _ in range(64)) * 8192
        dataset.add_new(0x00990010, "LO", "BULK")
        dataset.add_new(
            0x00991001, "OB", filler + person.family.encode() + b"\0" * (len(person.family) % 2) + filler
        )

    return _edited(content, edit)


def implicit(content: bytes, dice: random.Random, _: Person) -> bytes:
    """Write it in implicit VR."""
    return _edited(content, lambda dataset: None, ImplicitVRLittleEndian)


DAMAGES: tuple[Damage, ...] = (
    flip_bytes, cut, repeat_a_stretch, lose_a_stretch, wrong_vr, wrong_length, other_transfer_syntax, no_preamble,
    identifier_anywhere, identifier_anywhere, identifier_in_a_private_block, deep_sequences, wrong_values,
    missing_elements, other_character_set, huge_private_element, implicit,
)  # fmt: skip


def _sentence(vr: str, dice: random.Random, person: Person) -> str:
    secret = dice.choice(
        [person.family, person.patient_id, person.tokens["accession number"], person.tokens["phone"]]
    )
    if vr in ("CS", "AE"):
        return secret.upper()[:16]
    if vr == "PN":
        return f"{person.family}^{person.given}"
    return dice.choice((secret, f"see {secret}", f"{secret}, repeat", f"CT {secret.upper()} 3 mm"))[:64]


def _place(dataset: Dataset, dice: random.Random) -> Dataset:
    """Return the data set itself or a new item of some sequence in it."""
    if dice.random() < 0.5:
        return dataset
    item = Dataset()
    dataset.add_new(dice.choice(_SEQUENCE_TAGS), "SQ", [item])
    return item


def _edited(content: bytes, edit: Callable[[Dataset], None], syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the file after an edit of its data set; a file that cannot be read any more stays as it is."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        edit(dataset)
        if not hasattr(dataset, "file_meta"):
            return content
        if not dataset.file_meta.get("TransferSyntaxUID", "").is_compressed:
            dataset.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=False)
        return buffer.getvalue()
    except Exception:
        return content


def _all(content: bytes, code: bytes) -> list[int]:
    places, at = [], content.find(code, 132)
    while at >= 0 and at < 6000:
        places.append(at)
        at = content.find(code, at + 1)
    return places
