"""Registration of two CT volumes: the transform that carries a point of the fixed image to the moving one.

Belongs here: the start, the optimization, and their result. Does not: whether the result is good
(`imaging.registration_quality`), moving images and boxes by it (`imaging.transform`).

All work is done on copies of about `WORKING_MM` spacing, clipped to `WINDOW_HU`, on one thread and with a fixed seed:
the same images and seed give the same matrix, bit for bit. Patients are registered in parallel, never one image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import SimpleITK

from ct_assets.imaging import itk, resample
from ct_assets.imaging.volume import Floats, Grid, Volume

Stage = Literal["rigid", "affine", "bspline"]

WINDOW_HU = (-1000, 400)
"""Dense bone and metal carry no more weight than soft tissue."""
WORKING_MM = 2.0
"""Spacing of the working copies: from 3 mm the error of known motions was twice as large, from 1 mm hardly smaller."""
BODY_HU = -300
"""Above it a voxel is tissue (or table)."""
BODY_ML = 50.0
"""An image with less tissue than this is empty."""
SAMPLES = 200_000
"""Points at which images are compared on the finest level, at most: the cost does not grow with the image."""
HISTOGRAM_BINS = 32
SAMPLES_OF_START = 30_000
LEAST_OVERLAP = 0.1
"""Share of the fixed image's tissue that must lie in the moving image's field of view."""
BSPLINE_MESH_MM = 60.0
"""Between the control points of a deformation."""
BSPLINE_SAMPLES, BSPLINE_STEPS = 20_000, 15
"""Each point moves 64 control points, so that cost grows with points and steps. Of a known deformation with 2 mm mean
error after the affine stage 1.2 mm were left, and as much with 50,000 points or with 30 steps."""


class RegistrationRefused(Exception):  # noqa: N818 - a decision, not a failure
    """Two images that cannot be registered; `reason` is a code of `ct_assets.reasons`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + (f": {detail}" if detail else ""))
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Registration:
    """What a registration found, in LPS millimetres."""

    stage: Stage
    matrix_fixed_to_moving: Floats
    """4 x 4: a point of the fixed image to the point of the moving image with the same anatomy."""
    centre_lps_mm: tuple[float, float, float]
    """Centre of the fixed image's tissue; the rotation is about it."""
    deformation: SimpleITK.Transform | None = None
    """With stage `bspline`: moves points of the fixed image before the matrix does."""

    def itk_transform(self) -> SimpleITK.Transform:
        """Return the transform as ITK resamples with it: point of the fixed image to point of the moving image."""
        affine = SimpleITK.AffineTransform(3)
        affine.SetMatrix(self.matrix_fixed_to_moving[:3, :3].ravel().tolist())
        affine.SetTranslation(self.matrix_fixed_to_moving[:3, 3].tolist())
        if self.deformation is None:
            return affine
        return SimpleITK.CompositeTransform([affine, self.deformation])  # the last one is applied first

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation; of an affine matrix that of its nearest rotation."""
        left, _, right = np.linalg.svd(self.matrix_fixed_to_moving[:3, :3])
        cosine = (np.trace(left @ right) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    @property
    def translation_mm(self) -> tuple[float, float, float]:
        """How far the matrix carries `centre_lps_mm`."""
        centre = np.asarray(self.centre_lps_mm)
        x, y, z = self.matrix_fixed_to_moving[:3, :3] @ centre + self.matrix_fixed_to_moving[:3, 3] - centre
        return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class Working:
    """An image as registration looks at it: coarse, clipped, with a mask of its tissue."""

    volume: Volume
    body: npt.NDArray[np.bool_]

    @property
    def body_points(self) -> Floats:
        """LPS centres of the voxels of tissue, (n, 3), in array order."""
        return self.volume.grid.world(np.argwhere(self.body)[:, ::-1].astype(np.float64))

    def sampled(self, points_lps: Floats) -> npt.NDArray[np.float32]:
        """Return interpolated values at points (n, 3); NaN outside the field of view."""
        from scipy import ndimage

        at = self.volume.grid.index(points_lps)[:, ::-1].T
        sizes = np.array(self.volume.array.shape)[:, None]
        is_inside = ((at >= -0.5) & (at <= sizes - 0.5)).all(axis=0)
        values = np.full(at.shape[1], np.nan, dtype=np.float32)
        values[is_inside] = ndimage.map_coordinates(
            self.volume.array, at[:, is_inside], output=np.float32, order=1, mode="nearest"
        )
        return values


def working(volume: Volume) -> Working:
    """Return the working copy of an image. Raises `RegistrationRefused` where the image shows nothing."""
    array = volume.array
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise RegistrationRefused("registration_image_not_finite")
    spacing = [max(own, WORKING_MM) for own in volume.grid.spacing_mm]
    clipped = Volume(np.clip(array, *WINDOW_HU).astype(np.int16), volume.grid)
    coarse = resample.resample(clipped, (spacing[0], spacing[1], spacing[2]))
    body = coarse.array.astype(np.int16) > BODY_HU
    if body.sum() * coarse.grid.voxel_volume_ml < BODY_ML or np.ptp(coarse.array) == 0:
        raise RegistrationRefused("registration_image_empty")
    return Working(coarse, body)


def register(fixed: Working, moving: Working, stage: Stage = "rigid", seed: int = 0) -> Registration:
    """Register two images. Raises `RegistrationRefused` where they share no anatomy to start from."""
    with _one_thread():
        return _register(fixed, moving, stage, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let ITK use one thread: sums over several are not the same twice. (The method's own setting is not enough.)"""
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _register(fixed: Working, moving: Working, stage: Stage, seed: int) -> Registration:
    start = _start(fixed, moving)
    centre = fixed.body_points.mean(axis=0)
    rigid = SimpleITK.Euler3DTransform()
    rigid.SetCenter(centre.tolist())
    rigid.SetTranslation(start.tolist())
    _optimize(fixed, moving, rigid, seed, shrink=(3, 1), smoothing=(1, 0))
    matrix = _matrix(rigid)
    deformation: SimpleITK.Transform | None = None
    if stage in ("affine", "bspline"):
        affine = SimpleITK.AffineTransform(3)
        affine.SetCenter(centre.tolist())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        _optimize(fixed, moving, affine, seed, shrink=(2, 1), smoothing=(1, 0), first_step=0.5)
        matrix = _matrix(affine)
    if stage == "bspline":
        deformation = _deformation(fixed, moving, matrix, seed)
    x, y, z = centre
    return Registration(stage, matrix, (float(x), float(y), float(z)), deformation)


def _start(fixed: Working, moving: Working) -> Floats:
    """Return the translation (LPS mm) to start from: the most similar of several that need no overlap.

    Candidates: none, centres of tissue, centres of the fields of view; each also shifted along the patient's axis,
    since two scans of one chest rarely cover the same length of it.
    """
    points = fixed.body_points
    points = points[:: max(1, len(points) // SAMPLES_OF_START)]
    own = fixed.sampled(points)
    centres = [
        (moving.body_points.mean(axis=0), fixed.body_points.mean(axis=0)),
        (moving.volume.grid.corners().mean(axis=0), fixed.volume.grid.corners().mean(axis=0)),
    ]
    shifts = [np.zeros(3), *(there - here for there, here in centres)]
    extent = sum(float(np.ptp(image.volume.grid.corners()[:, 2])) for image in (fixed, moving)) / 2
    reach = int(extent / 2 // 10)
    along = [0, *(sign * step * 10 for step in range(1, reach + 1) for sign in (1, -1))]
    candidates = [shift + np.array([0.0, 0.0, z]) for shift in shifts for z in along]
    best, best_score = None, -np.inf
    for candidate in candidates:
        values = moving.sampled(points + candidate)
        share = float(np.isfinite(values).mean())
        if share < LEAST_OVERLAP:
            continue
        score = correlation(own, values) * np.sqrt(share)
        if score > best_score + 1e-6:
            best, best_score = candidate, score
    if best is None:
        raise RegistrationRefused("registration_no_overlap")
    return best


def correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Return the normalised cross-correlation where both are finite; 0 where one of them is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 2:
        return 0.0
    x, y = a[both].astype(np.float64), b[both].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread > 0 else 0.0


def _optimize(
    fixed: Working,
    moving: Working,
    transform: SimpleITK.Transform,
    seed: int,
    *,
    shrink: tuple[int, ...],
    smoothing: tuple[int, ...],
    first_step: float = 2.0,
) -> None:
    """Improve `transform` in place by the mutual information of the images over the fixed image's tissue.

    Of known motions of real CT it left a third of the error that correlation or squared differences left: it does not
    follow what the edge of a field of view cuts off.
    """
    method = _method(fixed, seed, shrink, smoothing)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=first_step,
        minStep=1e-4,
        numberOfIterations=150,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_float(fixed.volume), _float(moving.volume))
    except RuntimeError:
        # ITK ends so where the samples leave the moving image; where the transform then stands decides quality.
        raise RegistrationRefused("registration_no_overlap") from None


def _method(
    fixed: Working, seed: int, shrink: tuple[int, ...], smoothing: tuple[int, ...], samples: int = SAMPLES
) -> SimpleITK.ImageRegistrationMethod:
    from scipy import ndimage

    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    shares = [min(1.0, samples * factor**3 / fixed.body.size) for factor in shrink]
    # ITK takes seed 0 as "the clock".
    method.SetMetricSamplingPercentagePerLevel(shares, seed + 1)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel(list(smoothing))
    near = ndimage.binary_dilation(fixed.body, iterations=2)
    mask = itk.image_of(Volume(near.astype(np.uint8), fixed.volume.grid))
    method.SetMetricFixedMask(mask)
    return method


def _float(volume: Volume) -> SimpleITK.Image:
    return SimpleITK.Cast(itk.image_of(volume), SimpleITK.sitkFloat32)


def _matrix(transform: SimpleITK.Transform) -> Floats:
    """Return the 4 x 4 matrix of a linear ITK transform."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(columns, axis=1)
    matrix[:3, 3] = origin
    return matrix


def _deformation(fixed: Working, moving: Working, matrix: Floats, seed: int) -> SimpleITK.Transform:
    """Return the B-spline that moves points of the fixed image before `matrix` does."""
    grid: Grid = fixed.volume.grid
    sizes = np.array(grid.shape[::-1]) * np.array(grid.spacing_mm)
    mesh = [max(2, round(float(size) / BSPLINE_MESH_MM)) for size in sizes]
    image = _float(fixed.volume)
    spline = SimpleITK.BSplineTransformInitializer(image, mesh, 3)
    affine = SimpleITK.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    method = _method(fixed, seed, (1,), (0,), BSPLINE_SAMPLES)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-6, numberOfIterations=BSPLINE_STEPS)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(spline, inPlace=True)
    try:
        method.Execute(image, _float(moving.volume))
    except RuntimeError:
        raise RegistrationRefused("registration_no_overlap") from None
    return spline
