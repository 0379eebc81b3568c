"""What `ct-assets predict` finds in an input: one discovery for every system, and the record of what became of it.

Belongs here: which files are images, how their outputs are named, the lines of `prediction.jsonl` as they come. Does
not: loading and predicting one of them. A file that is named is the file that is predicted; a folder is walked with its
subfolders; every image ends in a line.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import polars as pl

from ct_assets import files, paths, progress
from ct_assets.dicom import index as headers
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti_read

Input = TypeVar("Input")

RECORD = "prediction.jsonl"
OTHER_IMAGES = (
    ".mha", ".mhd", ".nrrd", ".nhdr", ".mgh", ".mgz", ".mnc", ".par", ".rec", ".img",
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom", ".ima", ".npy", ".npz", ".zip",
)  # fmt: skip
"""Suffixes of files that a person takes for an image, and that are none that can be predicted."""


@dataclass(frozen=True)
class NiftiFile:
    """One NIfTI image."""

    name: str
    """Folder of its outputs below OUTPUT_DIR: the file's path without suffix, with it where another has the same."""
    path: Path


@dataclass(frozen=True)
class Found:
    """The images of an input."""

    root: Path
    """Paths of the index are relative to it."""
    nifti: tuple[NiftiFile, ...]
    dicom: pl.DataFrame
    """Rows of `MetadataAudit`: the DICOM files with pixels, or of the series that the named file is of."""
    refused: tuple[tuple[str, str], ...]
    """Name and reason code of files that are no image that can be read."""


def find(input_path: Path, workers: int, output_dir: Path, *, whole_series: bool = True) -> Found:
    """Return the images of a file or folder; what an earlier run wrote into `output_dir` is none.

    A named DICOM file stands for its series where a model needs a volume (`whole_series`), else for itself.
    Raises `UsageError` where there is no image at all.
    """
    if not input_path.exists():
        raise UsageError(f"{input_path}: no such file or folder")
    if input_path.is_file():
        return _named_file(input_path, whole_series)
    relative = [path.relative_to(input_path) for path in _files(input_path, output_dir)]
    index = headers.scan(input_path, root=input_path, workers=workers)
    index = index.filter(pl.col("path").is_in([path.as_posix() for path in relative]))
    images = [path for path in relative if nifti_read.is_nifti(input_path / path)]
    images = [path for path in images if not nifti_read.is_nifti_data(input_path / path)]
    dicom = _with_pixels(index)
    taken = {str(path) for path in images} | set(index.filter(pl.col("is_dicom"))["path"])
    others = [
        path
        for path in relative
        if path.as_posix() not in taken
        and path.name.lower().endswith(OTHER_IMAGES)
        and not nifti_read.is_nifti_name(path.name)
    ]
    if not images and dicom.is_empty() and not others:
        raise UsageError(f"{input_path}: neither a NIfTI image nor a DICOM image in it or in its subfolders")
    named, refused = _names(input_path, images)
    return Found(
        input_path,
        tuple(named),
        dicom,
        (*refused, *((path.as_posix(), "image_format_unknown") for path in others)),
    )


def _named_file(path: Path, whole_series: bool) -> Found:
    if nifti_read.is_nifti(path):
        named, refused = _names(path.parent, [Path(path.name)])
        return Found(path.parent, tuple(named), pl.DataFrame(), tuple(refused))
    index = headers.scan(path.parent, root=path.parent, workers=1)
    own = index.filter((pl.col("path") == path.name) & pl.col("is_dicom"))
    if own.is_empty():
        raise UsageError(
            f"{path}: is neither NIfTI nor DICOM, the formats that can be predicted; convert it, or name another file"
        )
    series = own["series_instance_uid"][0]
    alone = series is None or not whole_series
    same = pl.col("path") == path.name if alone else pl.col("series_instance_uid") == series
    return Found(path.parent, (), _with_pixels(index.filter(same)), ())


def _with_pixels(index: pl.DataFrame) -> pl.DataFrame:
    return index.filter(pl.col("is_dicom") & pl.col("has_pixel_data").fill_null(True))


def _files(folder: Path, output_dir: Path) -> list[Path]:
    inner = output_dir.resolve()
    own = inner if inner != folder.resolve() and inner.is_relative_to(folder.resolve()) else None
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (own is not None and path.resolve().is_relative_to(own))
    ]


def _names(root: Path, images: list[Path]) -> tuple[list[NiftiFile], list[tuple[str, str]]]:
    """Give each image a folder of its own below OUTPUT_DIR, also where letters differ in case alone."""
    named: list[NiftiFile] = []
    refused: list[tuple[str, str]] = []
    stems = [_stem(path).casefold() for path in images]
    for path, stem in zip(images, stems, strict=True):
        name = _stem(path) if stems.count(stem) == 1 else path.as_posix()
        if not all(paths.is_safe_name(part) for part in name.split("/")):
            refused.append((f"file-{files.digest_of(path.as_posix())[:16]}", "unsafe_name"))
            continue
        taken = {one.name.casefold() for one in named}
        number, unique = 2, name
        while unique.casefold() in taken:
            number, unique = number + 1, f"{name}-{number}"
        named.append(NiftiFile(unique, root / path))
    return named, refused


def _stem(path: Path) -> str:
    return (path.parent / nifti_read.name_without_suffix(path.name)).as_posix()


def predict_each(
    inputs: Iterable[Input],
    count: int,
    predict_one: Callable[[Input], dict[str, Any]],
    output_dir: Path,
    timings: progress.Timings,
    refused: Iterable[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Predict inputs one after the other and return the lines of `prediction.jsonl`, refused ones included."""
    with (
        timings.step("predict") as step,
        progress.track("predictions", count) as advance,
        Record(output_dir) as record,
    ):
        for line in refused:
            record.add(line)
        for each in inputs:
            record.add(predict_one(each))
            advance(1)
            step.items += 1
    return record.lines


class Record:
    """`prediction.jsonl`, a line an input, written as it comes and sorted at the end."""

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / RECORD
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._opened = self.path.open("w", encoding="utf-8")
        return self

    def add(self, line: dict[str, Any]) -> None:
        """Write the line of an input: from now on it is known, whatever happens to the next one."""
        self.lines.append(line)
        self._opened.write(json.dumps(line, sort_keys=True) + "\n")
        self._opened.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        if kind is None:
            self.lines.sort(key=lambda line: str(line["series"]))
            files.write_jsonl(self.path, self.lines)
