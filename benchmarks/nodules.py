"""Nodule evaluation and detection beside their peers, in CPU seconds.

FROC and intervals of a whole challenge (888 scans, 55,000 marks, 1,000 resamples); peaks of a sparse heat map beside
scikit-image and scipy; suppression of 1,000 boxes beside MONAI.

python benchmarks/nodules.py
"""

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from ct_assets.systems.nodules import froc, peaks

SCANS, FINDINGS, EXCLUDED, MARKS, RESAMPLES = 888, 1186, 35192, 55000, 1000
HEADER = "seriesuid,coordX,coordY,coordZ,"


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write(path: Path, last: str, scans: list[str], rows: int, values: np.ndarray, rng) -> None:
    points = rng.uniform(-150, 150, (rows, 3))
    places = rng.integers(len(scans), size=rows)
    lines = [
        f"{scans[place]},{x:.4f},{y:.4f},{z:.4f},{value:.6f}"
        for place, (x, y, z), value in zip(places, points, values, strict=True)
    ]
    path.write_text("\n".join([HEADER + last, *lines]))


def timed(function, *arguments, times: int = 1):
    before = cpu_s()
    for _ in range(times):
        result = function(*arguments)
    return result, (cpu_s() - before) / times


def heat_map(shape=(320, 340, 340), nodules: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    heat = np.zeros(shape, dtype=np.float32)
    ball = np.exp(-((np.indices((19, 19, 19)) - 9) ** 2).sum(axis=0) / 18)
    for _ in range(nodules):
        low = rng.integers(0, np.array(shape) - 19)
        part = heat[tuple(slice(start, start + 19) for start in low)]
        np.maximum(part, rng.uniform(0.2, 1) * ball, out=part)
    return heat


def maximum_filter(heat: np.ndarray, threshold: float) -> np.ndarray:
    from scipy.ndimage import maximum_filter as dilated

    return np.argwhere((heat >= threshold) & (heat == dilated(heat, 3)))


def peak_finding() -> None:
    from skimage.feature import peak_local_max

    heat = heat_map()
    (places, _), ours = timed(peaks.local_maxima, heat, 0.1, times=3)
    by_filter, scipy_s = timed(maximum_filter, heat, 0.1)
    by_skimage, skimage_s = timed(lambda: peak_local_max(heat, min_distance=3, threshold_abs=0.1))
    print(
        f"peaks in {heat.shape}: {len(places)} in {ours:.3f} CPU s; maximum_filter {len(by_filter)} in {scipy_s:.2f}; "
        f"peak_local_max {len(by_skimage)} in {skimage_s:.2f}"
    )


def suppression() -> None:
    from monai.data.box_utils import non_max_suppression

    rng = np.random.default_rng(0)
    non_max_suppression(np.array([[0, 0, 0, 1, 1, 1.0]]), np.ones(1), nms_thresh=0.1)  # what is set up once
    for count in (1000, 5000):
        low = rng.uniform(0, 200, (count, 3))
        boxes = np.concatenate([low, low + rng.uniform(4, 30, (count, 3))], axis=1)
        scores = rng.random(count)
        mine, ours = timed(peaks.suppress_boxes, boxes, scores, 0.1)
        theirs, monai_s = timed(lambda b, s: non_max_suppression(b, s, nms_thresh=0.1), boxes, scores)
        equal = mine.tolist() == theirs.tolist()
        print(
            f"suppression of {count} boxes: {ours:.3f} CPU s; MONAI {monai_s:.3f}; same boxes kept: {equal}"
        )


def challenge() -> None:
    rng = np.random.default_rng(0)
    scans = [f"1.2.826.0.{number:04d}" for number in range(SCANS)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [root / name for name in ("annotations", "excluded", "series", "marks")]
        write(paths[0], "diameter_mm", scans, FINDINGS, rng.uniform(4, 30, FINDINGS), rng)
        write(paths[1], "diameter_mm", scans, EXCLUDED, -np.ones(EXCLUDED), rng)
        paths[2].write_text("\n".join(scans))
        write(paths[3], "probability", scans, MARKS, rng.random(MARKS), rng)
        before = cpu_s()
        froc.evaluate(*paths)
        curve = cpu_s() - before
        before = cpu_s()
        froc.evaluate(*paths, bootstraps=RESAMPLES)
        both = cpu_s() - before
    print(f"curve and counts: {curve:.2f} CPU s; with {RESAMPLES} resamples: {both:.2f} CPU s")


def main() -> int:
    challenge()
    peak_finding()
    suppression()
    return 0


if __name__ == "__main__":
    sys.exit(main())
