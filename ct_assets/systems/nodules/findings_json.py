"""`findings.json`, version 1: the findings of one scan, in world millimetres and in voxels.

Belongs here: the form of the file, what is checked when it is written and read. Does not: measuring (`findings`).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Grid
from ct_assets.systems.nodules.findings import Finding

LOW_BELOW, HIGH_FROM = 0.3, 0.7
"""Bands of the triage probability."""

Triple = tuple[float, float, float]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class World(_Form):
    """DICOM patient coordinates (LPS)."""

    x: float
    y: float
    z: float


class Voxel(_Form):
    """Index into the image: slice, row, column."""

    k: float
    j: float
    i: float


class BoxForm(_Form):
    """Half-open: `low` is the first voxel, `high` the first beyond."""

    low: Voxel
    high: Voxel


class TriageForm(_Form):
    """Concern, where the detector gives it."""

    probability: float | None = Field(ge=0, le=1)
    """Of a triage score of 7 or more."""
    band: Literal["low", "intermediate", "high", "not_determined"]


class FindingForm(_Form):
    """A nodule."""

    id: int = Field(ge=1)
    tracking_uid: str = Field(pattern=r"^[0-9.]{1,64}$")
    center_world_mm: World
    center_voxel: Voxel
    confidence: float = Field(ge=0, le=1)
    diameters_mm: Triple
    volume_mm3: float = Field(gt=0)
    box_voxel: BoxForm
    mean_hu: float | None
    triage: TriageForm


class ModelForm(_Form):
    """What found them."""

    name: str
    version: str


class SummaryForm(_Form):
    """Counts over the findings."""

    findings: int
    high: int
    intermediate: int
    low: int
    not_determined: int
    largest_diameter_mm: float | None


class FindingsForm(_Form):
    """The file."""

    schema_version: Literal["1.0"] = "1.0"
    scan_id: str
    created_at: datetime
    model: ModelForm
    coordinate_system: Literal["LPS"] = "LPS"
    spacing_mm: Voxel
    """Steps along k, j, i."""
    shape: Voxel
    findings: list[FindingForm]
    summary: SummaryForm

    @model_validator(mode="after")
    def _counts_agree(self) -> "FindingsForm":
        if self.summary != _summary(self.findings):
            raise ValueError("the summary does not agree with the findings")
        return self


def band(probability: float | None) -> Literal["low", "intermediate", "high", "not_determined"]:
    """Return the band of a triage probability: low below 0.3, high from 0.7."""
    if probability is None:
        return "not_determined"
    return "low" if probability < LOW_BELOW else "high" if probability >= HIGH_FROM else "intermediate"


def form(
    found: list[Finding],
    grid: Grid,
    *,
    scan_id: str,
    model: str,
    version: str,
    created_at: datetime | None = None,
) -> FindingsForm:
    """Return the file's content; findings are numbered from 1 in the order given."""
    rows = [_row(number, finding) for number, finding in enumerate(found, start=1)]
    i, j, k = grid.spacing_mm
    return FindingsForm(
        scan_id=scan_id,
        created_at=created_at or datetime.now(UTC),
        model=ModelForm(name=model, version=version),
        spacing_mm=Voxel(k=k, j=j, i=i),
        shape=_voxel(grid.shape),
        findings=rows,
        summary=_summary(rows),
    )


def write(path: Path, content: FindingsForm) -> None:
    """Write `findings.json`."""
    files.write_json(path, content.model_dump(mode="json"))


def read(path: Path) -> FindingsForm:
    """Read and check `findings.json`. Raises `UsageError` naming the first field that is wrong."""
    try:
        return FindingsForm.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise UsageError(f"{path.name}: {place}: {first['msg']}; write it again") from None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    return FindingsForm.model_json_schema()


def _row(number: int, finding: Finding) -> FindingForm:
    x, y, z = finding.centre_lps_mm
    low, high = finding.box_kji
    return FindingForm(
        id=number,
        tracking_uid=finding.tracking_uid,
        center_world_mm=World(x=x, y=y, z=z),
        center_voxel=_voxel(finding.centre_kji),
        confidence=finding.confidence,
        diameters_mm=finding.diameters_mm,
        volume_mm3=finding.volume_mm3,
        box_voxel=BoxForm(low=_voxel(low), high=_voxel(high)),
        mean_hu=finding.mean_hu,
        triage=TriageForm(probability=finding.triage, band=band(finding.triage)),
    )


def _voxel(kji: Triple) -> Voxel:
    k, j, i = kji
    return Voxel(k=k, j=j, i=i)


def _summary(rows: list[FindingForm]) -> SummaryForm:
    bands = [row.triage.band for row in rows]
    return SummaryForm(
        findings=len(rows),
        high=bands.count("high"),
        intermediate=bands.count("intermediate"),
        low=bands.count("low"),
        not_determined=bands.count("not_determined"),
        largest_diameter_mm=max((row.diameters_mm[0] for row in rows), default=None),
    )
