"""Small bodies for registration: an ellipsoid with lungs, a spine and a few nodules, drawn in closed form."""

import numpy as np
from scipy import ndimage

from ct_assets.imaging.volume import Floats, Grid, Volume


def body(
    grid: Grid, *, seed: int = 0, matrix: Floats | None = None, centre=(0.0, 0.0, 0.0), scale: float = 1.0
) -> Volume:
    """Return a body on `grid`; `matrix` carries a point of this image to the point where the body is drawn."""
    k, j, i = np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij")
    points = grid.world(np.stack([i, j, k], axis=-1))
    if matrix is not None:
        points = points @ matrix[:3, :3].T + matrix[:3, 3]
    points = (points - centre) / scale
    rng = np.random.default_rng(seed)

    def inside(middle, radii):
        return (((points - middle) / radii) ** 2).sum(axis=-1) < 1

    values = np.full(grid.shape, -1000.0)
    values[inside((0, 0, 0), (150, 100, 200))] = 40
    for side in (-1, 1):
        values[inside((70 * side, -5, 0), (55, 70, 140))] = -850
    values[inside((0, 70, 0), (18, 18, 300)) & inside((0, 0, 0), (150, 100, 200))] = 300
    values[inside((25, -30, -20), (45, 40, 55))] = 60
    for _ in range(25):
        middle = rng.uniform((-110, -60, -110), (110, 60, 110))
        values[inside(middle, rng.uniform(8, 18))] = rng.uniform(-200, 200)
    return Volume(np.rint(ndimage.gaussian_filter(values, 0.7)).astype(np.int16), grid)


def grid(shape=(60, 60, 84), spacing=(4.0, 4.0, 6.0)) -> Grid:
    """Return a grid around the origin."""
    origin = tuple(-(size - 1) / 2 * step for size, step in zip(shape[::-1], spacing, strict=True))
    return Grid.of(shape, spacing, origin)
