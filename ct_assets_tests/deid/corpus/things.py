"""One file of the corpus while it is being made: a dataset, what was put into it, and what must become of it.

Belongs here: putting values at element paths and remembering them for the key, writing the file.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian

from ct_assets_tests.deid.corpus import answers
from ct_assets_tests.deid.corpus.answers import Answer
from ct_assets_tests.deid.corpus.people import Person


@dataclass
class Thing:
    """A file of the corpus."""

    path: str
    """Below the input folder."""
    case: str
    """Which hard case it is for."""
    person: Person | None
    dataset: Dataset
    expected: str = "released"
    """Disposition, or several joined by ` or `; `rejected as CODE` where the code matters."""
    pixels: str = "same"
    """`same` byte for byte after release, or `none`."""
    marks: list[tuple[str, str, str]] = field(default_factory=list)
    preamble: bytes = b"\0" * 128
    raw: bytes | None = None
    """The whole file where it is no DICOM, or broken on purpose."""

    def put(self, where: str, value: Any, expected_class: str, check: str, *, vr: str | None = None) -> None:
        """Set the element at `where` (keywords or hex tags, `[i]` for items), and note it for the key.

        Items of sequences on the way are made as needed.
        """
        current, tags = self.dataset, []
        parts = where.split(".")
        for part in parts[:-1]:
            name, _, index = part.rstrip("]").partition("[")
            tag, item = _tag(name), int(index or 0)
            if tag not in current:
                current.add_new(tag, "SQ", Sequence())
            while len(current[tag].value) <= item:
                current[tag].value.append(Dataset())
            current = current[tag].value[item]
            tags.append(f"{tag:08X}[{item}]")
        tag = _tag(parts[-1])
        target = self.dataset.file_meta if tag.group == 2 else current
        target.add_new(tag, vr or dictionary_VR(tag), value)
        self.mark(".".join([*tags, f"{tag:08X}"]), expected_class, check)

    def mark(self, tag_path: str, expected_class: str, check: str) -> None:
        """Note an element that is already there; a second mark of one element replaces the first."""
        self.marks = [mark for mark in self.marks if mark[0] != tag_path]
        self.marks.append((tag_path, expected_class, check))

    def private(
        self, creator: str, group: int, element: int, vr: str, value: Any, check: str, block: int = 0x10
    ) -> None:
        """Set a private element in the given block; `check` `same` means that it is safe and stays."""
        self.dataset.add_new(Tag(group, block), "LO", creator)
        tag = Tag(group, block << 8 | element)
        self.dataset.add_new(tag, vr, value)
        self.mark(f"{tag:08X}", "kept" if check == "same" else "removed", check)

    def answers(self) -> list[Answer]:
        """Return the rows of the key for this file."""
        found = []
        for tag_path, expected_class, check in self.marks:
            element = answers.element_at(self.dataset, tag_path)
            found.append(
                Answer(
                    patient=self.person.key if self.person else "",
                    sop_instance_uid=str(self.dataset.get("SOPInstanceUID", "")),
                    element_path=answers.readable(self.dataset, tag_path),
                    inserted_value=answers.as_text(element),
                    expected_class=expected_class,
                    check=check,
                    modality=str(self.dataset.get("Modality", "")),
                    tag_path=tag_path,
                    path=self.path,
                    case=self.case,
                )
            )
        return found

    def content(self) -> bytes:
        """Return the file's bytes."""
        if self.raw is not None:
            return self.raw
        meta = self.dataset.file_meta
        meta.MediaStorageSOPClassUID = self.dataset.get("SOPClassUID", "")
        meta.MediaStorageSOPInstanceUID = self.dataset.get("SOPInstanceUID", "")
        meta.ImplementationClassUID = "1.3.6.1.4.1.99999.7"
        self.dataset.preamble = self.preamble
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, self.dataset, enforce_file_format=True)
        return buffer.getvalue()

    def write(self, folder: Path) -> None:
        """Write the file below `folder`."""
        target = folder / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.content())


def empty_meta(transfer_syntax: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    """Return file meta information with its transfer syntax."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = transfer_syntax
    return meta


def _tag(name: str) -> BaseTag:
    number = tag_for_keyword(name)
    return Tag(number if number is not None else int(name, 16))
