"""`metadata.json`: the studies of a data set, their modality and their images.

Belongs here: the file's content, reading and writing it, making it from a folder. Does not: looking into
folders (`neuro.discover`), preprocessing (`neuro.cache`).

The file: `dataset_name`, `version`, `created`, `num_studies`, `studies` {name: {`mode`, `images` {name:
{`filename`, `processed`, and where needed `series`, `reasons`, `warnings`}}, `refused_images`}} and
`invalid_studies` {name: {`mode`, `reasons`, `refused_images`}}: what cannot be used is listed, never dropped.
"""

import copy
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings.neuro import Mode
from ct_assets.systems.neuro import discover

VERSION = "1.0"
MODES: tuple[Mode, ...] = ("ct", "mri")

Info = dict[str, Any]


class DatasetMetadata:
    """The studies of one data set."""

    def __init__(self, dataset_name: str = "dataset", version: str = VERSION) -> None:
        self.dataset_name = dataset_name
        self.version = version
        self.created = datetime.now(UTC).isoformat(timespec="seconds")
        self.studies: dict[str, Info] = {}
        self.invalid_studies: dict[str, Info] = {}

    @classmethod
    def from_directory(
        cls, data_dir: str | Path, mode_mapping: Mapping[str, str], *, dataset_name: str = "dataset"
    ) -> Self:
        """Return the metadata of `data_dir/raw/<study>/…`.

        `mode_mapping` says of every study whether it is `ct` or `mri`; nothing guesses it. Studies that it
        does not name, that have no folder, or that hold no usable image are listed in `invalid_studies`
        with reason codes, refused images beside them. All images count as not processed; `CacheManager` finds
        by its keys which of them are done.

        Raises `UsageError` where there is no `raw` folder or no mapping.
        """
        raw = Path(data_dir) / "raw"
        if not raw.is_dir():
            raise UsageError(f"{data_dir}: a folder `raw` with a folder a study is expected")
        if not isinstance(mode_mapping, Mapping):
            raise UsageError(
                "mode_mapping: a mapping of study to 'ct' or 'mri' is needed; no mode is guessed"
            )
        metadata = cls(dataset_name)
        on_disk = sorted(path.name for path in raw.iterdir() if path.is_dir())
        for name in sorted({*on_disk, *mode_mapping}):
            metadata._add_found(name, raw / name, mode_mapping.get(name), name in on_disk)
        return metadata

    def _add_found(self, name: str, folder: Path, mode: str | None, exists: bool) -> None:
        wanted = None if mode is None else str(mode).lower()
        known = next((one for one in MODES if one == wanted), None)
        reasons = []
        if not discover.is_safe(name):
            reasons.append("unsafe_name")
        if not exists:
            reasons.append("study_without_folder")
        if mode is None:
            reasons.append("mode_unmapped")
        elif known is None:
            reasons.append("mode_unknown")
        found = discover.images_of(folder, known) if exists else []
        good = [image for image in found if not image.reasons]
        refused = [
            {"filename": image.filename, "reasons": list(image.reasons)} for image in found if image.reasons
        ]
        if exists and not good:
            reasons.append("study_without_images")
        if reasons or known is None:
            self.invalid_studies[name] = {"mode": known, "reasons": reasons, "refused_images": refused}
            return
        self.add_study(
            name,
            known,
            {
                image.name: {"filename": image.filename}
                | ({} if image.series is None else {"series": image.series})
                for image in good
            },
        )
        self.studies[name]["refused_images"] = refused

    def add_study(self, name: str, mode: str, images: Mapping[str, Mapping[str, Any]]) -> None:
        """Add or replace a study; `images` maps each image's name to at least its `filename`.

        Raises `ValueError` for another mode than `ct` and `mri`, an unsafe name, or an image without file.
        """
        if str(mode).lower() not in MODES:
            raise ValueError(f"study {name!r}: mode {mode!r}: use 'ct' or 'mri'")
        for one in (name, *images):
            if not discover.is_safe(one):
                raise ValueError(f"name {one!r}: no leading dot, slash, `...` or control character")
        entries = {}
        for image, info in images.items():
            if "filename" not in info:
                raise ValueError(f"study {name!r}, image {image!r}: filename is missing")
            entries[image] = {"processed": False, **copy.deepcopy(dict(info))}
        self.invalid_studies.pop(name, None)
        self.studies[name] = {"mode": str(mode).lower(), "images": entries, "refused_images": []}

    def get_study(self, name: str) -> Info | None:
        """Return a study's entry, None where there is none."""
        return self.studies.get(name)

    def get_all_studies(self) -> dict[str, Info]:
        """Return every usable study by name."""
        return self.studies

    def get_studies_by_mode(self, mode: str) -> list[str]:
        """Return the names of the studies of one mode. Raises `ValueError` for a mode that does not exist."""
        if str(mode).lower() not in MODES:
            raise ValueError(f"mode {mode!r}: use 'ct' or 'mri'")
        return [name for name, info in self.studies.items() if info["mode"] == str(mode).lower()]

    def __len__(self) -> int:
        return len(self.studies)

    def to_dict(self) -> Info:
        """Return the content of `metadata.json`."""
        return {
            "dataset_name": self.dataset_name,
            "version": self.version,
            "created": self.created,
            "num_studies": len(self.studies),
            "studies": self.studies,
            "invalid_studies": self.invalid_studies,
        }

    def save(self, path: str | Path) -> None:
        """Write `metadata.json`, atomically."""
        files.write_json(Path(path), self.to_dict())

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises `UsageError` for a file that is missing or another one."""
        path = Path(path)
        if not path.is_file():
            raise UsageError(
                f"{path}: no such file; make it with DatasetMetadata.from_directory(...).save(...)"
            )
        try:
            content = files.read_json(path)
            metadata = cls(content["dataset_name"], content["version"])
            metadata.created = content["created"]
            metadata.invalid_studies = content.get("invalid_studies", {})
            for name, info in content["studies"].items():
                metadata.add_study(name, info["mode"], info["images"])
                metadata.studies[name]["refused_images"] = info.get("refused_images", [])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}: is no metadata of a data set: {error}") from None
        return metadata


def record(path: Path, outcomes: Iterable[tuple[str, str, Info]]) -> DatasetMetadata:
    """Write outcomes (study, image, fields) into the metadata file, several processes at a time if need be."""
    with FileLock(f"{path}.lock"):
        metadata = DatasetMetadata.from_file(path)
        for study, image, fields in outcomes:
            entry = metadata.studies.get(study, {}).get("images", {}).get(image)
            if entry is None:
                continue
            for key in ("reasons", "warnings"):
                entry.pop(key, None)
            entry.update({key: value for key, value in fields.items() if value or key == "processed"})
        metadata.save(path)
    return metadata
