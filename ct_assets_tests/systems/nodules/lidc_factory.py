"""Read messages of LIDC-IDRI and the small CT series they belong to; a test changes what it is about."""

from pathlib import Path

from ct_assets_tests.dicom import factory

ROWS, COLUMNS, SLICES = 32, 40, 9
ROW_MM, COLUMN_MM, STEP_MM = 0.8, 0.6, 2.0
ORIGIN = (-12.0, -10.0, 100.0)
NAMESPACE = "http://www.nih.gov"
SERIES = factory.uid("series", "P1", "ct")
RATED = {
    "subtlety": 4, "internalStructure": 1, "calcification": 6, "sphericity": 4, "margin": 3,
    "lobulation": 2, "spiculation": 1, "texture": 5, "malignancy": 3,
}  # fmt: skip


def images(folder: Path, patient: str = "P1") -> list[str]:
    """Write a CT series; return its SOPInstanceUIDs from low to high z."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = []
    for number in range(SLICES):
        position = (ORIGIN[0], ORIGIN[1], ORIGIN[2] + number * STEP_MM)
        one = factory.ct_slice(
            number + 1,
            position,
            patient=patient,
            Rows=ROWS,
            Columns=COLUMNS,
            PixelSpacing=[ROW_MM, COLUMN_MM],
        )
        # Names and instance numbers run the other way: neither says where a slice lies.
        one.InstanceNumber = SLICES - number
        one.save_as(folder / f"{SLICES - number:03d}.dcm", enforce_file_format=True)
        uids.append(one.SOPInstanceUID)
    return uids


def world(column: float, row: float, slice_number: float) -> tuple[float, float, float]:
    """LPS millimetres of a pixel, by the header's formula (PS3.3 C.7.6.2.1.1)."""
    x, y, z = ORIGIN
    return x + column * COLUMN_MM, y + row * ROW_MM, z + slice_number * STEP_MM


def square(column: int, row: int, size: int) -> list[tuple[int, int]]:
    """The chain of pixels around a square of `size` x `size` pixels whose first one is (column, row)."""
    low, right, bottom = (column - 1, row - 1), column + size, row + size
    top = [(c, low[1]) for c in range(low[0], right + 1)]
    side = [(right, r) for r in range(row, bottom + 1)]
    base = [(c, bottom) for c in range(right - 1, low[0] - 1, -1)]
    back = [(low[0], r) for r in range(bottom - 1, row - 1, -1)]
    return [*top, *side, *base, *back]


def roi(uid: str, points, *, inclusion: str | None = "TRUE", z: float | None = None) -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    position = "" if z is None else f"<imageZposition>{z} </imageZposition>"
    included = "" if inclusion is None else f"<inclusion>{inclusion}</inclusion>"
    return f"<roi>{position}<imageSOP_UID>{uid}</imageSOP_UID>{included}{edges}</roi>"


def nodule(*rois: str, name: str = "Nodule 001", rated: dict | None = RATED) -> str:
    ratings = ""
    if rated is not None:
        ratings = "".join(f"<{key}>{value}</{key}>" for key, value in rated.items())
        ratings = f"<characteristics>{ratings}</characteristics>"
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{ratings}{''.join(rois)}</unblindedReadNodule>"


def non_nodule(uid: str, column: int, row: int, name: str = "N1") -> str:
    return (
        f"<nonNodule><nonNoduleID>{name}</nonNoduleID><imageSOP_UID>{uid}</imageSOP_UID>"
        f"<locus><xCoord>{column}</xCoord><yCoord>{row}</yCoord></locus></nonNodule>"
    )


def message(*sessions: str, series: str = SERIES, namespace: str = NAMESPACE, note: str = "") -> str:
    """One file; each session is the text of its marks."""
    read = "".join(
        f"<readingSession><servicingRadiologistID>anon</servicingRadiologistID>{marks}</readingSession>"
        for marks in sessions
    )
    declared = f' xmlns="{namespace}"' if namespace else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage{declared}>{note}'
        f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>{read}</LidcReadMessage>"
    )


RADIOGRAPH = (
    '<?xml version="1.0"?><IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader>'
    "<CXRSeriesInstanceUid>1.2.3</CXRSeriesInstanceUid></ResponseHeader>"
    "<CXRreadingSession/></IdriReadMessage>"
)
