"""How much burned-in text is found, by class, contrast and size of the letters, and how many slices are held wrongly.

    python benchmarks/burned_in_recall.py [--samples 4] [--slices FOLDER] [--most 200] [--pictures FOLDER]

Names are drawn into slices and ultrasound frames made here, in the typeface that Pillow brings, each sample at
another place. A sample counts as found where `burned_in.judge` does not release it. `--slices` takes real CT slices
as well: their share that is held as they are, the CPU ms a slice, and the recall of names drawn into them. `--pictures`
prints the verdict of each real DICOM file of a folder, its BurnedInAnnotation taken away.
"""

import argparse
import resource
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.misc import is_dicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage

from ct_assets.deid.pixels import burned_in, frames
from ct_assets.deid.pixels import risk as pixel_risk
from ct_assets.settings.deid import BurnedInSettings

SIZES = (8, 10, 12, 16, 24)
NAMES = ("ZWOLLHOFER, PETRA", "KIM JISU 884120", "OBRAMBYCK 17.01.2020", "LI NA HX4829")
SIDE = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    classes: dict[str, tuple[Callable[[int], np.ndarray], tuple[int, ...], dict[str, object], int]] = {
        "CT, brightest value": (body, (3071,), {}, 0),
        "CT, 400 HU more": (body, (400,), {"added": True}, 0),
        "CT, 150 HU more": (body, (150,), {"added": True}, 0),
        "CT, turned 45 degrees": (body, (3071,), {"turned": 45}, 0),
        "CT, turned 90 degrees": (body, (3071,), {"turned": 90}, 0),
        "CT, letters stacked": (body, (3071,), {"stacked": True}, 0),
        "ultrasound, white": (fan, (255,), {}, 1),
        "ultrasound, 60 levels more": (fan, (60,), {"added": True}, 1),
    }
    print(f"{'found of ' + str(given.samples) + ', letters of':34}" + "".join(f"{s:>5} px" for s in SIZES))
    for title, (make, (value,), how, is_us) in classes.items():
        found = [
            sum(
                is_held((ultrasound if is_us else slice_)(drawn(make(seed), size, seed, value, **how)))
                for seed in range(given.samples)
            )
            for size in SIZES
        ]
        print(f"{title:34}" + "".join(f"{count:>8}" for count in found), flush=True)
    print(f"held without text: {sum(is_held(slice_(body(seed))) for seed in range(20))} of 20 made slices")
    if given.slices:
        real(given.slices, given.most)
    if given.pictures:
        for path in (path for path in sorted(given.pictures.rglob("*")) if path.is_file() and is_dicom(path)):
            picture = pydicom.dcmread(path)
            picture.pop("BurnedInAnnotation", None)
            print(f"{path.name:40}{burned_in.judge(picture, BurnedInSettings()).verdict}")


def real(folder: Path, most: int) -> None:
    """Print what is held of real slices, what it costs, and the recall of names drawn into them."""
    costs, held, count, hits = [], 0, 0, dict.fromkeys(SIZES, 0)
    tried = 0
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path)]
    for path in paths:
        dataset = pydicom.dcmread(path)
        if count == most or pixel_risk.how_to_look(dataset) is not pixel_risk.Look.CHEAP:
            continue
        count += 1
        if count == 1:
            is_held(dataset)  # libraries are loaded
        before = cpu_s()
        held += is_held(dataset)
        costs.append((cpu_s() - before) * 1e3)
        if count % 10 == 0:
            tried += 1
            pixels = next(iter(frames.stored_frames(dataset)))
            slope, intercept = (
                float(dataset.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))
            )
            for size in SIZES:
                hu = drawn(pixels * slope + intercept, size, tried % 8, 2500)
                hits[size] += is_held(slice_(hu))
    print(f"real slices: {held} of {count} held without text")
    print(
        f"CPU ms a slice: mean {np.mean(costs):.1f}, median {np.median(costs):.1f}, "
        f"95th percentile {np.percentile(costs, 95):.1f}, most {max(costs):.1f}"
    )
    print(f"names drawn into {tried} of them: " + ", ".join(f"{size} px {hits[size]}" for size in SIZES))


def cpu_s() -> float:
    """Return the CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def is_held(dataset: Dataset) -> bool:
    """Whether an instance is not released."""
    return bool(burned_in.judge(dataset, BurnedInSettings()).reasons)


def body(seed: int) -> np.ndarray:
    """Return a slice in HU: air, soft tissue, lungs with vessels as blurred as a scanner shows them, noise."""
    dice = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    hu = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40.0, -1000.0)
    lungs = ((np.abs(x) - 0.35) / 0.25) ** 2 + (y / 0.4) ** 2 < 1
    vessels = cv2.GaussianBlur(dice.normal(0, 1, hu.shape), (0, 0), 1.6)
    hu[lungs] = -850 + 500 * (vessels[lungs] > 0.35)
    return cv2.GaussianBlur(hu, (0, 0), 0.9) + dice.normal(0, 15, hu.shape)


def fan(seed: int) -> np.ndarray:
    """Return an ultrasound frame: a fan of speckle on black."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    inside = (np.hypot(x, y) < 0.9) & (np.abs(x) < y) & (y > 0.1)
    speckle = cv2.resize(np.random.default_rng(seed).rayleigh(45, (SIDE // 4, SIDE // 4)), (SIDE, SIDE))
    return np.where(inside, np.clip(speckle, 0, 190), 5.0)


def drawn(
    frame: np.ndarray,
    size: int,
    seed: int,
    value: float,
    *,
    added: bool = False,
    turned: int = 0,
    stacked: bool = False,
) -> np.ndarray:
    """Return a copy of a frame with a name of that value, or so much brighter than its ground."""
    name = NAMES[seed % len(NAMES)]
    page = Image.new("L", (SIDE, SIDE), 0)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    if stacked:
        for number, letter in enumerate(name.replace(" ", "")[:8]):
            pen.text((8, 8 + number * int(1.3 * size)), letter, fill=255, font=font)
    else:
        at = (40, SIDE // 2 - size) if turned else (6 + 5 * seed, 6 + 11 * seed)
        pen.text(at, name, fill=255, font=font)
    share = np.zeros(frame.shape)
    mask = np.asarray(page.rotate(turned, Image.Resampling.BICUBIC), float) / 255
    rows, columns = min(frame.shape[0], SIDE), min(frame.shape[1], SIDE)
    share[:rows, :columns] = mask[:rows, :columns]
    return frame + share * value if added else frame * (1 - share) + share * value


def slice_(hu: np.ndarray) -> Dataset:
    """Return a CT slice as reconstructed."""
    stored = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return instance(stored, CTImageStorage, "CT", 1)


def ultrasound(pixels: np.ndarray) -> Dataset:
    """Return an ultrasound image."""
    return instance(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), UltrasoundImageStorage, "US", 0)


def instance(stored: np.ndarray, sop_class: str, modality: str, is_signed: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = sop_class, modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = stored.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = stored.itemsize * 8 - 1, is_signed
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = stored.tobytes()
    return dataset


if __name__ == "__main__":
    main()
