"""What growth costs: 300 patients, then ten more, beside ten alone: `python benchmarks/growth.py [--patients 300]`.

Small made volumes, so that what is paid for every patient again would show; the whole of `ct-assets preprocess`, CPU
seconds by step. `unit_range` keeps the final sets as they are; under `foreground_zscore` the statistics of all training
patients change with the ten, and with them the normalised files of the final sets, which then are written anew.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from ct_assets import parallel, progress
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes.preprocess import preprocess
from ct_assets.settings.platform import Settings

SHAPE = (48, 96, 96)
NEW = 10


def write(number: int, folder: Path) -> str:
    """Write one patient's volume and mask, and return the row of the table."""
    random = np.random.default_rng(number)
    k, j, i = (np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE)
    radius = j[:, None] ** 2 + i[None] ** 2
    plane = np.where(radius < 0.75, 40.0, -1000.0) - 890 * (radius < 0.4)
    centre = random.uniform(-0.3, 0.3, 3)
    away = (
        (k[:, None, None] - centre[0]) ** 2
        + (j[None, :, None] - centre[1]) ** 2
        + (i[None, None] - centre[2]) ** 2
    )
    mask = away < 0.02
    image = np.where(mask, 60.0, plane[None]) + random.normal(0, 25, SHAPE)
    grid = Grid.of(SHAPE, (1.0, 1.0, 2.0))
    nifti.write(folder / f"{number}.nii.gz", Volume(image.astype(np.int16), grid))
    nifti.write(folder / f"{number}_mask.nii.gz", Volume(mask.astype(np.uint8), grid))
    stage, site = ("I", "II", "IIIa")[number % 3], "AB"[number % 2]
    return f"case_{number:04d},p{number},{number}.nii.gz,{number}_mask.nii.gz,{stage},{site}"


def spent(rows: list[str], folder: Path, output: Path, intensity: str, workers: int) -> dict[str, float]:
    """Preprocess a table of these rows and return CPU seconds by step."""
    table = folder / "cases.csv"
    table.write_text("\n".join(["case_id,patient_id,image,label,stage,site", *rows]) + "\n")
    settings = Settings.model_validate(
        {
            "data_root": str(output),
            "plan": {"spacing": [1.5, 1.5, 2.0], "intensity": intensity},
            "drift": {"permutations": 199},
        }
    )
    timings = progress.Timings()
    preprocess(
        table, output, settings, folds=None, test_share=None, given=None, workers=workers, timings=timings
    )
    output.mkdir(exist_ok=True)
    timings.write(output)
    return {row["step"]: row["cpu_s"] for row in json.loads((output / "timings.json").read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--workers", type=int, default=parallel.default_workers())
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        rows = [write(number, folder) for number in range(arguments.patients + NEW)]
        first, alone = rows[: arguments.patients], rows[arguments.patients :]
        spent(alone, folder, folder / "warm", "unit_range", arguments.workers)
        for intensity in ("unit_range", "foreground_zscore"):
            out = folder / intensity
            columns = {
                f"{arguments.patients}": spent(first, folder, out, intensity, arguments.workers),
                f"{arguments.patients}+{NEW}": spent(rows, folder, out, intensity, arguments.workers),
                "nothing new": spent(rows, folder, out, intensity, arguments.workers),
                f"{NEW} alone": spent(
                    alone, folder, folder / f"{intensity}-alone", intensity, arguments.workers
                ),
            }
            print(f"\n{intensity + ', CPU s':<26}" + "".join(f"{name:>13}" for name in columns))
            for step in next(iter(columns.values())):
                print(f"{step:<26}" + "".join(f"{column[step]:>13.2f}" for column in columns.values()))
            print(f"{'all':<26}" + "".join(f"{sum(column.values()):>13.2f}" for column in columns.values()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
