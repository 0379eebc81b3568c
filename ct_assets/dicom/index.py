"""The header index: one row for every file of a tree, read once, in parallel, without pixels.

Belongs here: finding files, reading what is new or changed, joining the rows of batches. The columns are
declared in `ct_assets.tables.audits.MetadataAudit`; how values are read is in `dicom.header` (elements at
the top, by the fast walker of `dicom.elements`) and `dicom.nested` (sequences, by pydicom). Pixels are read
in two cases only: the voxels of a mask object are counted, and instances that share an identity or a place
are compared.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import parallel, progress, tables
from ct_assets.dicom import content, elements, header, item_walk
from ct_assets.tables.audits import MetadataAudit

FILES_PER_TASK = 256
LARGE_BYTES = 16 * 2**20
"""Larger files are stepped through, not read."""
FEW_FILES = 3000
"""Fewer files are read in this process: starting workers would take longer."""

_DTYPES = tables.dtypes(MetadataAudit)
_EMPTY: dict[str, Any] = dict.fromkeys(_DTYPES)


@dataclass(frozen=True)
class _Task:
    root: str
    paths: tuple[str, ...]
    mask_contents: bool


def scan(
    folder: Path,
    *,
    root: Path,
    workers: int,
    previous: pl.DataFrame | None = None,
    previous_ns: int = 0,
    mask_contents: bool = True,
) -> pl.DataFrame:
    """Return a row for every file below `folder` (schema `MetadataAudit`, sorted by path).

    `path` is relative to `root`, with forward slashes. Rows of `previous` are taken over for files of the
    same path and size that have not changed since `previous_ns` (nanoseconds of the clock when the previous
    scan began; both the content's and the inode's time must be older). `mask_contents` False leaves out what
    needs the voxels and contours of mask objects: their counts, boxes and planes.
    """
    found = sorted(_files(folder, root))
    known: dict[str, int] = {}
    if previous is not None and previous_ns:
        known = dict(zip(previous["path"], previous["file_size_bytes"], strict=True))
    unchanged = [path for path, size, changed in found if changed < previous_ns and known.get(path) == size]
    kept = set(unchanged)
    to_read = [path for path, _, _ in found if path not in kept]
    tasks = [
        _Task(str(root), tuple(to_read[start : start + FILES_PER_TASK]), mask_contents)
        for start in range(0, len(to_read), FILES_PER_TASK)
    ]
    parts = []
    with progress.track("headers", len(to_read)) as advance:
        several = workers if len(to_read) > FEW_FILES else 1
        for task, part in zip(
            tasks,
            parallel.map_ordered(_read_task, tasks, workers=several, preload=("ct_assets.dicom.index",)),
            strict=True,
        ):
            parts.append(part)
            advance(len(task.paths))
    if previous is not None and kept:
        parts.append(previous.filter(pl.col("path").is_in(kept)).select(list(_DTYPES)))
    index = pl.concat(parts) if parts else pl.DataFrame(schema=_DTYPES)
    return with_content_digests(by_path(index), root)


def by_path(index: pl.DataFrame) -> pl.DataFrame:
    """Return the index in the order of paths; one that is in order already is not copied."""
    return index if index["path"].is_sorted() else index.sort("path")


def with_content_digests(index: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Return the index with digests for instances that share a SOPInstanceUID, or a place in one series.

    Needed after joining the indexes of several batches, before `series.group`: only bytes tell an instance
    that was delivered twice from two that claim one identity, and a slice sent twice from two at one place.
    """
    images = pl.col("has_pixel_data") & pl.col("image_position_patient_mm").is_not_null()
    place = ["patient_id", "series_instance_uid", "image_position_patient_mm"]
    needs_content = pl.col("sop_instance_uid").is_not_null() & (pl.len().over("sop_instance_uid") > 1)
    needs_pixels = images & (pl.len().over(place) > 1)
    wanted = index.select("path", content=needs_content, pixels=needs_pixels.fill_null(False)).filter(
        pl.col("content") | pl.col("pixels")
    )
    digests: dict[str, tuple[str | None, str | None]] = {}
    for path, needs_both, pixels in wanted.iter_rows():
        digests[path] = _digests(root / path, content=needs_both, pixels=pixels)
    for path in _written_differently(index, digests):
        digests[path] = (content.digest(root / path), digests[path][1])
    names = ("content_sha256", "pixel_sha256")
    if not digests:
        return index.with_columns(pl.lit(None, pl.String).alias(name) for name in names)
    return index.with_columns(
        pl.col("path")
        .replace_strict(
            {path: both[at] for path, both in digests.items()}, default=None, return_dtype=pl.String
        )
        .alias(name)
        for at, name in enumerate(names)
    )


def _written_differently(index: pl.DataFrame, digests: dict[str, tuple[str | None, str | None]]) -> list[str]:
    """Return the paths whose instance has files of unequal bytes, which may say the same all the same."""
    bytes_of = pl.DataFrame(
        {"path": list(digests), "content": [content for content, _ in digests.values()]},
        schema={"path": pl.String, "content": pl.String},
    )
    repeated = index.select("path", "sop_instance_uid").join(bytes_of, on="path")
    unequal = repeated.filter(
        pl.col("sop_instance_uid").is_not_null()
        & (pl.len().over("sop_instance_uid") > 1)
        & ((pl.col("content").n_unique().over("sop_instance_uid") > 1) | pl.col("content").is_null())
    )
    return unequal["path"].to_list()


def read_file(path: Path | str, *, mask_contents: bool = True) -> dict[str, Any]:
    """Return one file's row of the index, all columns but `path`; `mask_contents` as in `scan`."""
    row = _EMPTY.copy()
    row["is_dicom"], row["problems"], row["oddities"], row["file_size_bytes"] = False, [], [], 0
    try:
        row["file_size_bytes"] = os.stat(path).st_size  # noqa: PTH116 (a path of text, thousands of times)
        if row["file_size_bytes"] == 0:
            row["problems"] = ["no_dicom_file"]
            return row
        try:
            if row["file_size_bytes"] > LARGE_BYTES:
                raw = item_walk.read_header(Path(path), header.WANTED)
            else:
                raw = elements.read_header(path, header.WANTED)
        except elements.NotPlainError:
            raw = _read_with_pydicom(path)
    except Exception:
        # Whatever a broken file raises in a reader, it is one row with a code; the text could carry values.
        row["problems"] = ["unreadable_header" if _looks_like_dicom(path) else "no_dicom_file"]
        return row
    row["is_dicom"] = True
    values, row["oddities"] = header.interpret(raw.values)
    row.update(values)
    row["transfer_syntax_uid"] = raw.transfer_syntax_uid or None
    row["has_pixel_data"] = raw.pixel_offset is not None
    row["pixel_data_bytes"] = raw.pixel_bytes
    if raw.pixel_offset is not None and raw.pixel_bytes is not None:
        if row["file_size_bytes"] < raw.pixel_offset + raw.pixel_bytes:
            row["problems"].append("truncated_pixel_data")
        elif _pixel_length_is_wrong(row):
            row["problems"].append("pixel_data_length_mismatch")
    if row["sop_class_uid"] in _NEEDS_SEQUENCES:
        _add_sequences(path, row, mask_contents)
    return row


# The classes of `dicom.nested.NEEDS_SEQUENCES`, named here so that plain CT needs no pydicom.
_NEEDS_SEQUENCES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2.2",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.481.3",
    )
)
_NONE: tuple[str | None, str | None] = (None, None)


def _files(folder: Path, root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path relative to root, size and time of the last change of every file below `folder`."""
    prefix = len(str(root).rstrip("/")) + 1
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file():
                    status = entry.stat()
                    yield entry.path[prefix:], status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def _read_task(task: _Task) -> pl.DataFrame:
    rows = []
    for path in task.paths:
        row = read_file(f"{task.root}/{path}", mask_contents=task.mask_contents)
        row["path"] = path
        rows.append(row)
    return pl.DataFrame(
        [_column(name, dtype, [row[name] for row in rows]) for name, dtype in _DTYPES.items()]
    )


def _column(name: str, dtype: pl.DataType, values: list[Any]) -> pl.Series:
    """Return a column; polars is slow with lists in rows, of which most files have none or a few distinct ones."""
    first = values[0]
    if first is None and values.count(None) == len(values):
        return pl.Series(name, [None], dtype).new_from_index(0, len(values))
    if not isinstance(dtype, pl.List):
        return pl.Series(name, values, dtype)
    if first and isinstance(first[0], float) and all(value and len(value) == len(first) for value in values):
        flat = pl.Series(name, [number for value in values for number in value], pl.Float64())
        return flat.reshape((len(values), len(first))).cast(dtype)
    places: dict[tuple[Any, ...] | None, int] = {}
    at = [places.setdefault(None if value is None else tuple(value), len(places)) for value in values]
    distinct = [None if value is None else list(value) for value in places]
    return pl.Series(name, distinct, dtype).gather(at)


def _read_with_pydicom(path: Path | str) -> elements.RawHeader:
    """Read what the fast walker does not: other byte orders, deflated, order broken, no preamble."""
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    dataset = pydicom.dcmread(path, defer_size=1024, force=False)
    values: dict[int, bytes] = {}
    for tag in header.WANTED:
        if tag not in dataset:
            continue
        written = DicomBytesIO()
        written.is_little_endian, written.is_implicit_VR = True, True
        write_data_element(written, dataset[tag], ["utf-8"])
        values[int(tag)] = written.getvalue()[8:]
    if not values:
        raise ValueError("no element of the suite can be read")
    if header.SPECIFIC_CHARACTER_SET in values:
        values[header.SPECIFIC_CHARACTER_SET] = b"ISO_IR 192"
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or "")
    offset = 0 if "PixelData" in dataset else None
    return elements.RawHeader(syntax, values, 0, offset, None)


def _looks_like_dicom(path: Path | str) -> bool:
    try:
        with Path(path).open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _pixel_length_is_wrong(row: dict[str, Any]) -> bool:
    sizes = [row[name] for name in ("rows", "columns", "bits_allocated")]
    if None in sizes:
        return False
    voxels = sizes[0] * sizes[1] * (row["samples_per_pixel"] or 1) * (row["number_of_frames"] or 1)
    expected = (voxels * sizes[2] + 7) // 8
    return row["pixel_data_bytes"] not in (expected, expected + expected % 2)


def _add_sequences(path: Path | str, row: dict[str, Any], mask_contents: bool) -> None:
    import pydicom

    from ct_assets.dicom import mask_pixels, nested, rtstruct
    from ct_assets.dicom.uids import RT_STRUCTURE_SET, SEGMENTATIONS

    is_seg = row["sop_class_uid"] in SEGMENTATIONS
    try:
        if row["sop_class_uid"] == RT_STRUCTURE_SET:
            row |= nested.structures(rtstruct.read(Path(path)), with_contours=mask_contents)
            return
        # What is read later from the file would be parsed element by element: frames count in thousands.
        dataset = pydicom.dcmread(path, stop_before_pixels=not mask_contents or not is_seg)
        row |= nested.columns_of(dataset, row["sop_class_uid"], with_frames=mask_contents)
    except Exception:
        row["problems"].append("unreadable_sequences")
        return
    if is_seg and mask_contents:
        try:
            row |= mask_pixels.count(dataset)
        except Exception:
            row["problems"].append("unreadable_mask_pixels")


def _digests(path: Path, *, content: bool, pixels: bool) -> tuple[str | None, str | None]:
    try:
        raw = elements.read_header(path, frozenset())
        whole = path.read_bytes()
    except (OSError, elements.NotPlainError):
        return _NONE
    content_digest = hashlib.sha256(whole[raw.dataset_offset :]).hexdigest() if content else None
    pixel_digest = None
    if pixels and raw.pixel_offset is not None:
        end = None if raw.pixel_bytes is None else raw.pixel_offset + raw.pixel_bytes
        pixel_digest = hashlib.sha256(whole[raw.pixel_offset : end]).hexdigest()
    return content_digest, pixel_digest
