"""FROC and intervals of a whole challenge: 888 scans, 55,000 marks, 1,000 resamples; CPU seconds.

python benchmarks/nodules.py
"""

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from ct_assets.systems.nodules import froc

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


def main() -> int:
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
