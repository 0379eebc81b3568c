"""A torch data set over the token cache: one image an item.

Belongs here: choosing the CT window, reading cache or raw file, labels, the item's keys. Does not: batches
(`neuro.collate`), the order of items (`neuro.sampler`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch.utils.data import Dataset

from ct_assets.errors import UsageError
from ct_assets.settings.neuro import Mode, Normalisation, PreprocessingSettings, Stream, TokenBackground
from ct_assets.systems.neuro import augment as changes
from ct_assets.systems.neuro import cache, tokens
from ct_assets.systems.neuro.labels import Label, StudyLabels, read_labels
from ct_assets.systems.neuro.metadata import DatasetMetadata
from ct_assets.systems.neuro.prepare import CT_WINDOWS, check_mode
from ct_assets.systems.neuro.refusal import ImageRefusedError

DEFAULT_WINDOW_PROBABILITIES = (0.7, 0.15, 0.15)


class Item(TypedDict):
    """One image as the data set gives it."""

    img: torch.Tensor
    """Tokens (N, 1024) float32; the volume (1, D, H, W) where `tokenize` is off."""
    coords: torch.Tensor
    """(N, 3) int64: (d, h, w)."""
    filtered: torch.Tensor
    """(N,) uint8: 1 for background."""
    size: torch.Tensor
    """(3,) int64: tokens along D, H, W."""
    path: str
    """The source, relative to the data set's folder."""
    label: Label | None
    study: str
    mode: Mode
    window: str | None
    """The CT window; None for MR."""


class ImageDataset(Dataset):
    """The images of a data set, in the order of its metadata.

    An image that cannot be read is None, never a dummy: the collators leave it out and count it.
    """

    def __init__(
        self,
        data_dir: str | Path,
        use_cache: bool = True,
        ct_window_probs: Sequence[float] = DEFAULT_WINDOW_PROBABILITIES,
        random_crop: bool = False,
        augment: bool = False,
        tokenize: bool = True,
        study_labels: str | Path | Mapping[str, Any] | None = None,
        fallback_to_raw: bool = True,
        mode_filter: str | None = None,
        *,
        unknown_label: Literal["refuse", "leave_out"] = "refuse",
        studies: Sequence[str] | None = None,
        normalisation: Mapping[Stream, Normalisation] | None = None,
        token_background: TokenBackground = "any",
        settings: PreprocessingSettings | None = None,
    ) -> None:
        """Open `data_dir` by its `metadata.json`.

        `ct_window_probs` are the chances of brain, blood and bone window. `fallback_to_raw` preprocesses an
        image that the cache does not hold. `study_labels` is a CSV, a JSON file or a mapping; a study
        without a label is refused, or left out and named in `left_out`. `normalisation` standardises the
        streams it names.

        Raises `UsageError` for settings, labels and studies that do not fit the data set.
        """
        self.data_dir = Path(data_dir)
        self.ct_window_probs = _probabilities(ct_window_probs)
        self.use_cache, self.fallback_to_raw = use_cache, fallback_to_raw
        self.random_crop, self.augment, self.tokenize = random_crop, augment, tokenize
        self.normalisation = dict(normalisation or {})
        self.token_background = token_background
        self.settings = settings or PreprocessingSettings()
        self.labels = None if study_labels is None else read_labels(study_labels)
        self.metadata = DatasetMetadata.from_file(self.data_dir / "metadata.json")
        self.left_out: list[str] = []
        """Studies without a label, where they are left out."""
        self.skipped: dict[str, str] = {}
        """Images that could not be read in this process, by path, with the reason code."""
        self._cache = cache.CacheManager(self.data_dir, self.settings)
        self.image_index = self._index(
            studies, None if mode_filter is None else check_mode(mode_filter), unknown_label
        )
        """(study, image, mode) of every item."""

    def _index(
        self, studies: Sequence[str] | None, mode: Mode | None, unknown_label: str
    ) -> list[tuple[str, str, Mode]]:
        wanted = list(self.metadata.studies) if studies is None else list(studies)
        if unknown := [name for name in wanted if name not in self.metadata.studies]:
            raise UsageError(f"{self.data_dir}: the metadata has no study {', '.join(sorted(unknown))}")
        wanted = [name for name in wanted if mode in (None, self.metadata.studies[name]["mode"])]
        if self.labels is not None:
            self.left_out = [name for name in wanted if name not in self.labels.of_study]
            if self.left_out and unknown_label == "refuse":
                raise UsageError(
                    f"study_labels: {len(self.left_out)} studies have no label: {', '.join(self.left_out[:5])}; "
                    "give them one, or set unknown_label to 'leave_out'"
                )
            wanted = [name for name in wanted if name in self.labels.of_study]
        return [
            (name, image, self.metadata.studies[name]["mode"])
            for name in wanted
            for image in self.metadata.studies[name]["images"]
        ]

    def __len__(self) -> int:
        return len(self.image_index)

    def __getitem__(self, index: int) -> Item | None:
        """Return one image, or None (and count it in `skipped`) where it cannot be read."""
        study, image, mode = self.image_index[index]
        stream: Stream = "mri" if mode == "mri" else self._drawn_window()
        source = self._cache.source(study, image)
        try:
            volume, mask = self._read(study, image, mode, stream)
        except ImageRefusedError as refused:
            self.skipped[source.relative] = refused.code
            return None
        except FileNotFoundError:
            self.skipped[source.relative] = "source_missing"
            return None
        if self.random_crop:
            volume, mask = changes.random_crop(volume, mask, self.token_background)
        if self.augment:
            volume, mask = changes.random_flips(volume, mask)
        if stream in self.normalisation:
            volume = (volume - self.normalisation[stream].mean) / self.normalisation[stream].std
        size = tokens.size_of(volume)
        return Item(
            img=tokens.tokenize(volume) if self.tokenize else volume.contiguous(),
            coords=tokens.coordinates(size),
            filtered=tokens.background_tokens(mask, self.token_background),
            size=torch.tensor(size),
            path=source.relative,
            label=None if self.labels is None else self.labels.of_study[study],
            study=study,
            mode=mode,
            window=None if mode == "mri" else stream,
        )

    def _drawn_window(self) -> Stream:
        return CT_WINDOWS[int(torch.multinomial(self.ct_window_probs, 1).item())]

    def _read(self, study: str, image: str, mode: Mode, stream: Stream) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one stream and the background. Raises `ImageRefusedError` or `FileNotFoundError`."""
        source = self._cache.source(study, image)
        if self.use_cache:
            cached = self._cache.load_image(study, image, stream if mode == "ct" else None)
            if isinstance(cached, dict):
                return cached["data"], cached["mask"]
        if not self.fallback_to_raw:
            raise ImageRefusedError("not_cached", source.path.name)
        series = self.metadata.studies[study]["images"][image].get("series")
        prepared, _, _ = cache.make(source.path, mode, series, self.settings)
        return torch.from_numpy(prepared.streams[stream]), torch.from_numpy(prepared.mask)


def _probabilities(given: Sequence[float]) -> torch.Tensor:
    values = torch.tensor([float(one) for one in given], dtype=torch.float64)
    if len(values) != len(CT_WINDOWS) or bool((values < 0).any()) or abs(float(values.sum()) - 1) > 1e-6:
        raise UsageError(f"ct_window_probs {list(given)}: three chances that sum to 1 (brain, blood, bone)")
    return values


__all__ = ["ImageDataset", "Item", "StudyLabels"]
