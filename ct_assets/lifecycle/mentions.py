"""Other people's objects that mention the person: what they mention, and overwriting it.

Belongs here: the search in one file of somebody else, and the same file with the mention overwritten by as
many letters. Does not: which files are searched (`lifecycle.deliveries`).

Originals are otherwise never changed. Here it is the only way: the object is another person's and stays, and
nothing of the one who withdrew may stay in it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from ct_assets.deid.batch import dicomfile
from ct_assets.lifecycle.finder import Finder

_BINARY_VRS = frozenset(
    ("OB", "OW", "OD", "OF", "OL", "OV", "US", "SS", "UL", "SL", "FL", "FD", "AT", "SV", "UV")
)
_NUMBERS = frozenset(("DS", "IS", "DA", "DT", "TM"))
"""Values of numbers and times hold no name; digits in them are no mention."""
_FILE_META_BYTES = 1024
"""So far into the file preamble and File Meta Information reach at most, in practice."""


@dataclass(frozen=True)
class Mention:
    """What one file of somebody else holds of the person."""

    path: str
    uids: frozenset[str] = frozenset()
    """Keys of the person that the file bears or names: shared, as long as it is an instance."""
    has_words: bool = False
    can_be_masked: bool = False
    """False for what is no DICOM instance, or cannot be parted from the mention: such a file goes whole."""


def in_instance(path: str, content: bytes, finder: Finder) -> Mention:
    """Search a DICOM instance of somebody else."""
    uids = frozenset(content[start:end].decode("ascii", "ignore") for start, end in finder.key_spans(content))
    if not finder.has_word(content):
        return Mention(path, uids)
    if not _values_with_words(content, finder):
        return Mention(path, uids)  # chance in pixels or numbers
    return Mention(path, uids, True, masked(content, finder) is not None)


def in_other_file(path: str, content: bytes, finder: Finder) -> Mention:
    """Search a file that is no instance: a letter, a log, a medium's directory, a torso of a file."""
    return Mention(path, has_words=finder.has(content))


def masked(content: bytes, finder: Finder) -> bytes | None:
    """Return an instance with every mention overwritten in place, lengths unchanged; None where that fails."""
    changed = finder.masked(content[:_FILE_META_BYTES]) + content[_FILE_META_BYTES:]
    if not _reads_alike(content, changed):
        changed = content
    for value in _values_with_words(content, finder):
        new = finder.masked(value)
        for form in ("<H", "<I", ">H", ">I"):
            if len(value) < 1 << 16 or form[1] == "I":
                length = struct.pack(form, len(value))
                changed = changed.replace(length + value, length + new)
    return None if _values_with_words(changed, finder) else changed


def _reads_alike(before: bytes, after: bytes) -> bool:
    try:
        with dicomfile.silence():
            first, second = dicomfile.read(before), dicomfile.read(after)
    except Exception:
        return False
    return len(dicomfile.elements(first.dataset)) == len(dicomfile.elements(second.dataset))


def _values_with_words(content: bytes, finder: Finder) -> set[bytes]:
    try:
        with dicomfile.silence():
            source = dicomfile.read(content)
            return {value for value in _values(source.dataset) if finder.has_word(value)}
    except Exception:
        return {content} if finder.has_word(content) else set()


def _values(dataset: Dataset) -> Iterator[bytes]:
    """Yield the raw values that may hold text, sequences unfolded."""
    for tag, element in dicomfile.elements(dataset).items():
        items = None
        if element.VR in ("SQ", "UN", None) or int(tag) >> 16 & 1:
            items = dicomfile.items_of(element)
        if items:
            for item in items:
                yield from _values(item)
            continue
        value = getattr(element, "value", None)
        if int(tag) in dicomfile.PIXEL_TAGS or not isinstance(value, bytes) or not value:
            continue
        vr = dicomfile.effective_vr(element, int(tag))
        if vr in _NUMBERS or (vr in _BINARY_VRS and not int(tag) >> 16 & 1):
            continue
        yield value
