"""Factories of images for the tests of pixels: small datasets, made where they are used."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ct_assets_tests.deid.corpus.objects import STORAGE

US, US_MULTIFRAME, CT, MR, SECONDARY_CAPTURE = "6.1", "3.1", "2", "4", "7"


def image(
    pixels: np.ndarray,
    *,
    sop_class: str = US,
    photometric: str = "MONOCHROME2",
    planar: int = 0,
    syntax: str = ExplicitVRLittleEndian,
    **elements: object,
) -> Dataset:
    """Return an image of `(rows, columns)`, `(frames, rows, columns)`, or colour with a last axis of 3."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = STORAGE + sop_class, "1.2.3.4"
    dataset.Modality = {US: "US", US_MULTIFRAME: "US", CT: "CT", MR: "MR"}.get(sop_class, "OT")
    if sop_class == CT:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    colour = photometric in ("RGB", "YBR_FULL")
    shape = pixels.shape[:-1] if colour else pixels.shape
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = photometric
    if colour:
        dataset.PlanarConfiguration = planar
    dataset.Rows, dataset.Columns = shape[-2:]
    if len(shape) == 3:
        dataset.NumberOfFrames = shape[0]
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    stored = np.moveaxis(pixels, -1, -3) if planar else pixels
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
