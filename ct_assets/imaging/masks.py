"""Masks on a CT's slices: the voxels of each segment, and label maps made of them.

Belongs here: putting SEG frames onto a stack of slices, exactly or not at all (`place_seg`), and painting
label maps. Does not: reading SEG files (`dicom.seg`), contours (`imaging.rtstruct`), the choice of the series
that a mask means (`imaging.masks_reference`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ct_assets.dicom.seg import MaskError, SegFrame, Segment, Segmentation
from ct_assets.imaging import masks_nearest
from ct_assets.imaging.stack import SliceStack
from ct_assets.imaging.target import Target
from ct_assets.imaging.volume import Array
from ct_assets.settings.conversion import MaskSettings

FlatIndices = npt.NDArray[np.int64]
LARGEST_LABEL = 65535
"""Label maps hold 8 or 16 unsigned bits; 0 is the background."""


@dataclass(frozen=True, eq=False)
class SegmentVoxels:
    """The voxels of one segment, as indices into the flattened (slice, row, column) array."""

    segment: Segment
    flat: FlatIndices
    label: int = 0
    """Its value in label maps: its number, where a label map can hold that; 0 where it was left out."""
    reasons: tuple[str, ...] = ()
    """Why the segment was left out, where it was."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask object on a stack of slices."""

    kind: str
    shape: tuple[int, int, int]
    segments: tuple[SegmentVoxels, ...]
    warnings: tuple[str, ...]
    facts: dict[str, object] = field(default_factory=dict)
    """What the record of the conversion tells about it."""
    is_place_proven: bool = True
    """Whether everything lies on the very slices that it refers to."""

    @property
    def overlaps(self) -> bool:
        """Whether any voxel belongs to two segments."""
        present = [voxels.flat for voxels in self.segments if voxels.flat.size]
        if len(present) < 2:
            return False
        seen = np.zeros(int(np.prod(self.shape)), dtype=np.bool_)
        for flat in present:
            if seen[flat].any():
                return True
            seen[flat] = True
        return False

    def label_map(self, numbers: dict[int, int] | None = None) -> Array:
        """Paint the segments into one array (slice, row, column), each with its own label.

        `numbers` maps segment numbers to labels and leaves out those it does not name.
        """
        numbers = numbers or {voxels.segment.number: voxels.label for voxels in self.segments}
        largest = max(numbers.values(), default=0)
        painted = np.zeros(int(np.prod(self.shape)), dtype=np.uint8 if largest < 256 else np.uint16)
        for voxels in self.segments:
            if voxels.segment.number in numbers:
                painted[voxels.flat] = numbers[voxels.segment.number]
        return painted.reshape(self.shape)


def with_labels(segments: Sequence[SegmentVoxels], warnings: set[str]) -> tuple[SegmentVoxels, ...]:
    """Give every segment that was not left out its value in label maps.

    A number from 1 to 65,535 is the value; others (0, negative, larger) get the least values that no segment
    has, and a warning. Raises `MaskError` where no voxel is left: an empty mask is none.
    """
    usable = [voxels for voxels in segments if not voxels.reasons]
    if not any(voxels.flat.size for voxels in usable):
        raise MaskError("mask_empty", "no segment holds a voxel")
    taken = {voxels.segment.number for voxels in segments}
    free = (value for value in range(1, LARGEST_LABEL + 1) if value not in taken)
    labelled = []
    for voxels in segments:
        label = 0
        if not voxels.reasons:
            label = voxels.segment.number
            if not 1 <= label <= LARGEST_LABEL:
                label = next(free)
                warnings.add("segments_renumbered")
        labelled.append(replace(voxels, label=label))
    return tuple(labelled)


@dataclass(frozen=True, slots=True)
class _Placement:
    """A frame that coincides with pixels of one slice: flat index = start + r x by_row + c x by_column."""

    start: int
    by_row: int
    by_column: int
    k: int
    first: tuple[int, int]  # (j, i) of the frame's first pixel
    row_step: tuple[int, int]  # (j, i) for one row of the frame
    column_step: tuple[int, int]

    @property
    def is_whole_slice(self) -> bool:
        """Whether the frame's pixels run as those of the slice, from its first one on."""
        return self.first == (0, 0) and self.row_step == (1, 0) and self.column_step == (0, 1)


def place_seg(seg: Segmentation, target: Target, settings: MaskSettings, tolerance_mm: float) -> Mask:
    """Put the frames of a SEG onto the slices.

    A frame belongs where its header says: its pixel centres must coincide with those of a slice within
    `tolerance_mm` (also a part of a slice, also with rows or columns running the other way). A frame without
    a position takes that of its source image, or of the frame of it that is named. Frames on no slice make
    the grids differ, which is refused or resampled by setting. Raises `MaskError`, `PixelError`.
    """
    stack = target.stack
    warnings: set[str] = set()
    facts: dict[str, object] = {"segmentation_type": seg.kind, "frames": len(seg.frames)}
    if seg.kind == "FRACTIONAL":
        warnings.add("fractional_mask_thresholded")
        facts["fractional_threshold"] = settings.fractional_threshold
        facts["fractional_type"] = seg.fractional_type
    pieces: dict[int, list[FlatIndices]] = defaultdict(list)
    exceeds = inside = 0
    is_proven = True
    places: dict[tuple[object, ...], _Placement | str | None] = {}  # many segments share their frames' places
    for frame, number, positions in seg.lit(settings.fractional_threshold):
        place = (frame.position_mm or frame.sources, frame.orientation, frame.pixel_spacing_mm)
        if place not in places:
            places[place] = _place(frame, seg, target, tolerance_mm)
        placed = places[place]
        if placed is None:
            exceeds, inside, is_proven = 0, 0, False
            pieces = _other_grid(seg, stack, settings, warnings, facts)
            break
        if isinstance(placed, str):
            exceeds += positions.size
            continue
        is_proven &= _lies_on_source(frame, placed.k, target, warnings)
        flat, beyond = _on_stack(placed, positions, seg, stack)
        exceeds += beyond
        inside += flat.size
        pieces[number].append(flat)
    if exceeds:
        facts["voxels_outside"] = exceeds
        if not inside:
            raise MaskError("mask_outside_volume", "no voxel of the mask lies inside the image")
        if settings.outside == "refuse":
            raise MaskError("mask_exceeds_volume", f"{exceeds} voxels of the mask lie outside the image")
        warnings.add("mask_cropped")
    segments = with_labels(_segments(seg, pieces, warnings), warnings)
    return Mask(seg.kind, stack.shape, segments, tuple(sorted(warnings)), facts, is_proven)


def _on_stack(
    placed: _Placement, positions: FlatIndices, seg: Segmentation, stack: SliceStack
) -> tuple[FlatIndices, int]:
    """Return a frame's pixels as indices into the stack, and how many lie beside it."""
    form = seg.form
    if placed.is_whole_slice and (form.rows, form.columns) == (stack.rows, stack.columns):
        return positions + placed.start, 0
    rows, columns = np.divmod(positions, form.columns)
    j = placed.first[0] + rows * placed.row_step[0] + columns * placed.column_step[0]
    i = placed.first[1] + rows * placed.row_step[1] + columns * placed.column_step[1]
    within = (j >= 0) & (j < stack.rows) & (i >= 0) & (i < stack.columns)
    beyond = int(np.count_nonzero(~within))
    if beyond:
        rows, columns = rows[within], columns[within]
    return placed.start + rows * placed.by_row + columns * placed.by_column, beyond


def _segments(
    seg: Segmentation, pieces: dict[int, list[FlatIndices]], warnings: set[str]
) -> list[SegmentVoxels]:
    known = {segment.number: segment for segment in seg.segments}
    if unknown := set(pieces) - set(known):
        raise MaskError(
            "segment_numbers_invalid", f"frames name {len(unknown)} segments that are not described"
        )
    found = []
    for number, segment in sorted(known.items()):
        several = sorted((piece for piece in pieces.get(number, []) if piece.size), key=lambda flat: flat[0])
        flat = np.concatenate(several) if several else np.empty(0, dtype=np.int64)
        if not (flat[1:] > flat[:-1]).all():
            unique = np.unique(flat)
            if unique.size < flat.size:
                warnings.add("mask_frames_repeated")
            flat = unique
        if not flat.size:
            warnings.add("segment_empty")
        found.append(SegmentVoxels(segment, flat))
    return found


def _place(
    frame: SegFrame, seg: Segmentation, target: Target, tolerance_mm: float
) -> _Placement | str | None:
    """Return where the frame lies; "outside" beyond the first or last slice; None on no slice's pixels."""
    stack = target.stack
    position = frame.position_mm
    if position is None:
        known = target.sources.slices(frame.sources)
        if len(known) != 1 or (seg.form.rows, seg.form.columns) != (stack.rows, stack.columns):
            raise MaskError("mask_position_missing", "a frame has neither a position nor one source image")
        k = known[0]
        return _Placement(k * stack.rows * stack.columns, stack.columns, 1, k, (0, 0), (1, 0), (0, 1))
    if len(frame.orientation) != 6 or min(frame.pixel_spacing_mm) <= 0:
        raise MaskError("mask_position_missing", "a frame has no orientation or pixel spacing")
    origin = np.asarray(position)
    between_rows, between_columns = frame.pixel_spacing_mm
    by_column = np.asarray(frame.orientation[:3]) * between_columns
    by_row = np.asarray(frame.orientation[3:]) * between_rows
    normal, offsets = stack.normal, stack.offsets_mm
    offset = float((origin - stack.positions_mm[0]) @ normal)
    k, away = stack.nearest_slice(offset)
    tilted = max(abs(by_column @ normal) * seg.form.columns, abs(by_row @ normal) * seg.form.rows)
    if tilted > tolerance_mm:
        return None
    if _is_beside(seg, stack, k, origin, (by_column, by_row)):
        return "outside"
    if away > tolerance_mm:
        step = float(np.median(np.diff(offsets))) if len(offsets) > 1 else 0.0
        beyond = offset < offsets[0] - step / 2 or offset > offsets[-1] + step / 2
        return "outside" if beyond else None
    first = np.rint(stack.to_pixels @ (origin - stack.positions_mm[k])).astype(int)
    column_step = np.rint(stack.to_pixels @ by_column).astype(int)
    row_step = np.rint(stack.to_pixels @ by_row).astype(int)
    if abs(column_step).sum() != 1 or abs(row_step).sum() != 1 or column_step @ row_step:
        return None
    if _largest_deviation(seg, stack, k, origin, (by_column, by_row), (first, column_step, row_step)) > (
        tolerance_mm
    ):
        return None
    stride = np.array([1, stack.columns])
    return _Placement(
        start=int(k * stack.rows * stack.columns + first @ stride),
        by_row=int(row_step @ stride),
        by_column=int(column_step @ stride),
        k=k,
        first=(int(first[1]), int(first[0])),
        row_step=(int(row_step[1]), int(row_step[0])),
        column_step=(int(column_step[1]), int(column_step[0])),
    )


def _is_beside(
    seg: Segmentation,
    stack: SliceStack,
    k: int,
    origin: npt.NDArray,
    steps_mm: tuple[npt.NDArray, npt.NDArray],
) -> bool:
    """Tell whether the whole frame lies beside the slice, seen along the normal."""
    c, r = seg.form.columns - 1, seg.form.rows - 1
    corners = np.array([origin + a * steps_mm[0] + b * steps_mm[1] for a in (0, c) for b in (0, r)])
    pixels = (corners - stack.positions_mm[k]) @ stack.to_pixels.T
    border = np.array([stack.columns, stack.rows]) - 0.5
    return bool((pixels.max(axis=0) < -0.5).any() or (pixels.min(axis=0) > border).any())


def _largest_deviation(
    seg: Segmentation,
    stack: SliceStack,
    k: int,
    origin: npt.NDArray,
    steps_mm: tuple[npt.NDArray, npt.NDArray],
    pixels: tuple[npt.NDArray, npt.NDArray, npt.NDArray],
) -> float:
    """Return how far, at worst, a corner of the frame lies from the pixel that it is taken for."""
    first, column_step, row_step = pixels
    worst = 0.0
    for c in (0, seg.form.columns - 1):
        for r in (0, seg.form.rows - 1):
            told = origin + c * steps_mm[0] + r * steps_mm[1]
            taken = stack.positions_mm[k] + stack.steps_mm @ (first + c * column_step + r * row_step)
            worst = max(worst, float(np.linalg.norm(told - taken)))
    return worst


def _lies_on_source(frame: SegFrame, k: int, target: Target, warnings: set[str]) -> bool:
    """Tell whether a frame lies on a slice that it refers to; warn where it refers to others."""
    known = target.sources.slices(frame.sources)
    if frame.sources and not known:
        warnings.add("mask_sop_references_stale")
    elif known and k not in known:
        warnings.add("mask_source_elsewhere")
    return k in known


def _other_grid(
    seg: Segmentation, stack: SliceStack, settings: MaskSettings, warnings: set[str], facts: dict[str, object]
) -> dict[int, list[FlatIndices]]:
    if settings.other_grid == "refuse":
        raise MaskError("mask_grid_differs", "the mask's pixels do not coincide with the image's")
    warnings.add("mask_resampled")
    facts["resampled"] = "nearest"
    pieces, facts["voxels_outside"] = masks_nearest.resample(seg, stack, settings.fractional_threshold)
    if facts["voxels_outside"]:
        if not pieces:
            raise MaskError("mask_outside_volume", "no voxel of the mask lies inside the image")
        if settings.outside == "refuse":
            raise MaskError("mask_exceeds_volume", "the mask runs past the image")
        warnings.add("mask_cropped")
    return pieces
