"""Studies that tests send: small CT series of an invented patient."""

import io
import zipfile

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

NAME = "DOE^JANE"
BOUNDARY = "part-of-the-study"


def slices(count: int = 3, *, seed: str = "a", size: int = 8) -> list[bytes]:
    """Return the files of a CT series."""
    study, series = (generate_uid(entropy_srcs=[seed, part]) for part in ("study", "series"))
    made = []
    for number in range(count):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = generate_uid(entropy_srcs=[seed, str(number)])
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series
        data.PatientName, data.PatientID, data.Modality = NAME, "1234567", "CT"
        data.Rows = data.Columns = size
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 1, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.ImagePositionPatient = [0, 0, number]
        data.PixelData = np.full((size, size), number, np.int16).tobytes()
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, data, enforce_file_format=True)
        made.append(buffer.getvalue())
    return made


def archive(files: dict[str, bytes] | list[bytes], **options) -> bytes:
    """Return a zip archive of files."""
    named = files if isinstance(files, dict) else {f"{number}.dcm": one for number, one in enumerate(files)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as opened:
        for name, content in named.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def related(files: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart/related body and its header."""
    parts = [
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one + b"\r\n" for one in files
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}


def study_uid(content: bytes) -> str:
    """Return the study of a file."""
    return str(pydicom.dcmread(io.BytesIO(content)).StudyInstanceUID)
