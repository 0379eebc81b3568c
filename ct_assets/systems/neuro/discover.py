"""What a study's folder holds: one entry an image, good or refused.

Belongs here: names of images, which files belong to which, checks by header. Does not: the metadata file
(`neuro.metadata`), reading voxels.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ct_assets.settings.neuro import Mode
from ct_assets.systems.neuro import load
from ct_assets.systems.neuro.refusal import ImageRefusedError

UNSAFE = re.compile(r"^\.|[\x00-\x1f\x7f/\\]|\.\.\.")
"""Names that would hide, leave the folder, or break a partition key."""
LOOSE = "."
"""The file name of a series whose slices lie directly in the study's folder, among others."""


@dataclass(frozen=True)
class ImageFound:
    """One image of a study."""

    name: str
    filename: str
    """File or folder, relative to the study's folder."""
    series: str | None
    """Identifier of the series where its folder holds several."""
    reasons: tuple[str, ...] = ()
    """Why it cannot be used; empty for a good one."""


def is_safe(name: str) -> bool:
    """Tell whether a name may stand for a study or an image in paths and partition keys."""
    return bool(name) and not UNSAFE.search(name) and name == name.strip()


def images_of(study_dir: Path, mode: Mode | None) -> list[ImageFound]:
    """Return the images of a study's folder and all below it, sorted by name; every file is accounted for.

    A NIfTI file is an image. DICOM files are grouped by series: a series is one image whatever its number of
    files, and several series of one folder are several images. Files that are no image are entries with a
    reason; hidden ones are passed over.
    """
    paths = [
        path for path in sorted(study_dir.rglob("*")) if path.is_file() and not _is_hidden(path, study_dir)
    ]
    found = [_nifti(path, study_dir) for path in paths if _is_nifti(path)]
    if any(not _is_nifti(path) for path in paths):
        found += _dicom(study_dir, mode)
    return _named_apart(sorted(found, key=lambda image: (image.name, image.filename)), mode)


def _is_hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(load.NIFTI_SUFFIXES)


def _nifti(path: Path, study_dir: Path) -> ImageFound:
    filename = path.relative_to(study_dir).as_posix()
    name = re.sub(r"\.nii(\.gz)?$", "", filename, flags=re.IGNORECASE).replace("/", "_")
    try:
        load.check_nifti_header(path)
    except ImageRefusedError as refused:
        return ImageFound(name, filename, None, (refused.code,))
    return ImageFound(name, filename, None)


def _dicom(study_dir: Path, mode: Mode | None) -> list[ImageFound]:
    from ct_assets.systems.neuro import dicom_source

    scanned = dicom_source.scan(study_dir)
    homes = [_home(one.paths) for one in scanned.found]
    images = []
    for one, home in zip(scanned.found, homes, strict=True):
        is_shared = sum(other == home or other.startswith(f"{home}/") for other in homes) > 1
        series: str | None = one.identifier if is_shared or home == LOOSE else None
        if home == LOOSE and len(one.paths) == 1:
            name, filename, series = Path(one.paths[0]).stem, one.paths[0], None
        elif home == LOOSE:
            name, filename = f"series-{one.identifier}", LOOSE
        else:
            name, filename = home.replace("/", "_") + (f"-{series}" if series else ""), home
        reasons: tuple[str, ...] = ()
        try:
            dicom_source.check(name, one)
        except ImageRefusedError as refused:
            reasons = (refused.code,)
        if mode is not None and one.mode != mode:
            reasons = (*reasons, "mode_mismatch")
        images.append(ImageFound(name, filename, series, reasons))
    return images + [
        ImageFound(Path(path).stem, path, None, (code,))
        for path, code in scanned.others.items()
        if not _is_nifti(Path(path)) and not _is_hidden(study_dir / path, study_dir)
    ]


def _home(paths: tuple[str, ...]) -> str:
    """Return the folder that holds all files of a series, relative to the study's."""
    parts = [Path(path).parent.parts for path in paths]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common) or LOOSE


def _named_apart(images: list[ImageFound], mode: Mode | None) -> list[ImageFound]:
    """Refuse names that the cache cannot keep apart."""
    seen: set[str] = set()
    result = []
    for image in images:
        reasons = image.reasons
        if not is_safe(image.name):
            reasons = (*reasons, "unsafe_name")
        elif mode == "mri" and image.name.endswith("_mask"):
            reasons = (*reasons, "reserved_name")
        elif not reasons and image.name in seen:
            reasons = ("name_taken",)
        if not reasons:
            seen.add(image.name)
        result.append(ImageFound(image.name, image.filename, image.series, reasons))
    return result
