"""JPEG Extended (ISO 10918-1, process 4) with 12 bits a sample: an old lossy coding of CT.

Belongs here: decoding one frame with GDCM, whose own reader knows it although pydicom does not ask it to.
Does not: other transfer syntaxes (`dicom.pixels`).
"""

from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import JPEGExtended12Bit

if TYPE_CHECKING:
    from ct_assets.dicom.pixels import PixelFormat, Stored

SYNTAX = str(JPEGExtended12Bit)


def decode(content: bytes, form: "PixelFormat") -> "Stored":
    """Return the values (rows, columns) of one compressed frame. Raises `ValueError` where GDCM gives none."""
    import gdcm

    gdcm.Trace.WarningOff()  # it tries 8 bits first, and says so on stderr
    gdcm.Trace.ErrorOff()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(content)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2"))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(SYNTAX)))
    image.SetPixelFormat(
        gdcm.PixelFormat(1, form.bits_allocated, form.bits_stored, form.bits_stored - 1, int(form.is_signed))
    )
    raw = image.GetBuffer()
    if not raw:
        raise ValueError("no decoded frame")
    values = np.frombuffer(raw.encode("utf-8", "surrogateescape"), form.dtype)
    return values[: form.rows * form.columns].reshape(form.rows, form.columns)
