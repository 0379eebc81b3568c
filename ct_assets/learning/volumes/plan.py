"""A fold's plan: how volumes become network input, decided by its training patients and settings alone.

Belongs here: the value object `Plan`, its file and digest, and building it for a fold. Does not: reading images
(`learning.volumes.fingerprint`), the rules from what was read to numbers (`learning.volumes.plan_rules`), or resampling
(`learning.volumes.fold_volumes`).
"""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import ValidationError

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings.base import Section
from ct_assets.settings.folds import PlanSettings
from ct_assets.settings.platform import Settings

FORMAT = 1
"""Version of the file's layout; a reader refuses others."""

FINAL = "final"
"""The fold that trains on all training patients and validates nobody."""


class Intensity(Section):
    """How HU become network input: clip to [lower, upper], subtract, divide."""

    scheme: Literal["foreground_zscore", "window", "unit_range", "per_case"]
    lower_hu: float
    upper_hu: float
    subtract: float | None
    """Null for `per_case`: each case's own mean of its voxels above -500 HU."""
    divide: float | None
    """Null for `per_case`: each case's own deviation of its voxels above -500 HU."""
    window: str | None = None

    def normalise(
        self, hu: npt.NDArray[Any], case_mean: float | None = None, case_std: float | None = None
    ) -> npt.NDArray[np.float32]:
        """Return network input of the same shape as `hu`.

        `case_mean` and `case_std` are the case's own statistics (store entries carry them); only the scheme
        `per_case` needs them. Raises `ValueError` where they are needed and missing.
        """
        subtract = case_mean if self.subtract is None else self.subtract
        divide = case_std if self.divide is None else self.divide
        if subtract is None or divide is None:
            raise ValueError(f"intensity scheme {self.scheme} needs the case's own mean and deviation")
        values = hu.astype(np.float32)  # the one copy; all else is done in place
        np.clip(values, np.float32(self.lower_hu), np.float32(self.upper_hu), out=values)
        values -= np.float32(subtract)
        values *= np.float32(1 / divide)
        return values

    def network_value(self, hu: float) -> float:
        """Return what one HU value becomes under a scheme that is the same for every case."""
        return float(self.normalise(np.array([hu], np.float32), 0.0, 1.0)[0])


class Crop(Section):
    """Which part of a volume is kept."""

    mode: Literal["body", "lung", "none"]
    margin_mm: float


class Resampling(Section):
    """How volumes come to the target spacing."""

    image_order: Literal[0, 1, 3]
    outside_hu: int
    label: Literal["area_majority_keep_components"] = "area_majority_keep_components"


class Plan(Section):
    """Everything that training and inference need to know about preparing a volume."""

    format: int = FORMAT
    fold: str
    training_patients: int
    training_cases: int
    training_patients_digest: str
    """Digest of the sorted identifiers of the fold's training patients."""
    training_content_digest: str
    """Digest of what was read of them: voxels, masks, labels, header factors."""
    orientation: Literal["LPS"] = "LPS"
    """Axes i, j, k of the resampled volumes run to the patient's left, back and head (arrays are k, j, i)."""
    target_spacing_mm: tuple[float, float, float]
    """(x, y, z): steps along i, j, k."""
    intensity: Intensity
    crop: Crop
    resampling: Resampling
    patch_size: tuple[int, int, int]
    """(k, j, i) voxels."""
    median_shape: tuple[int, int, int]
    """(k, j, i): the training median at the target spacing, before the crop."""
    statistics: dict[str, Any]
    """The merged fingerprint of the training cases, for people."""
    settings: dict[str, Any]
    """The settings that the plan follows from."""
    warnings: tuple[str, ...] = ()
    """Codes of `ct_assets.reasons`."""
    overridden: tuple[str, ...] = ()
    """Fields that a person's JSON replaced."""
    inherits: str | None = None
    """Digest of the plan that a person's JSON built on."""
    digest: str = ""
    """Digest of everything above."""

    def sealed(self) -> Self:
        """Return the plan with its digest set."""
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        """Return the digest of everything but the digest itself."""
        content = self.model_dump(mode="json")
        content.pop("digest")
        return files.digest_of(content)

    def save(self, path: Path) -> None:
        """Write the plan as JSON for people, sealed."""
        files.write_json(path, self.sealed().model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan, or a person's small JSON with `inherits` (a path relative to it) and replaced fields.

        Raises `UsageError` naming file and field; also where a full plan does not match its own digest.
        """
        try:
            content = files.read_json(path)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such plan; make the fold's plan first") from None
        except ValueError as error:
            raise UsageError(f"{path}: is no JSON: {error}") from None
        if not isinstance(content, dict):
            raise UsageError(f"{path}: a plan is a JSON object, this is {type(content).__name__}")
        if "target_spacing_mm" not in content or "statistics" not in content:
            if not isinstance(content.get("inherits"), str):
                raise UsageError(f"{path}: is neither a whole plan nor one with `inherits`: a path to a plan")
            parent = cls.load(path.parent / content.pop("inherits"))
            return parent.overridden_by(content, str(path))
        try:
            plan = cls.model_validate(content)
        except ValidationError as error:
            raise UsageError(f"{path}: {_explain(error)}") from None
        if plan.format != FORMAT:
            raise UsageError(f"{path}: plan format {plan.format}, this program reads {FORMAT}; make it again")
        if plan.digest != plan.content_digest():
            raise UsageError(
                f"{path}: was changed after it was made (its digest does not match); make it again, or write "
                'a small JSON with {"inherits": "plan.json", "<field>": …} for a change of your own'
            )
        return plan

    def overridden_by(self, fields: dict[str, Any], where: str) -> "Plan":
        """Return the plan with `fields` replaced and recorded; nested fields are merged.

        Raises `UsageError` for unknown fields, wrong values, and fields that state facts about the training
        patients and so cannot be replaced.
        """
        facts = sorted(set(fields) & _FACTS)
        if facts:
            raise UsageError(f"{where}: {', '.join(facts)}: facts about the training patients, not a choice")
        content = self.model_dump(mode="json")
        names = []
        for name, value in fields.items():
            if isinstance(value, dict) and isinstance(content.get(name), dict):
                content[name] = {**content[name], **value}
                names += [f"{name}.{inner}" for inner in value]
            else:
                content[name] = value
                names.append(name)
        content["overridden"] = sorted({*self.overridden, *names})
        content["inherits"] = self.sealed().digest
        try:
            return Plan.model_validate(content).sealed()
        except ValidationError as error:
            raise UsageError(f"{where}: {_explain(error)}") from None


def build_plan(
    manifest: pl.DataFrame,
    fold: str,
    root: Path,
    store: Path,
    settings: Settings | PlanSettings,
    workers: int,
    *,
    header_factors: pl.DataFrame | None = None,
) -> Plan:
    """Build the plan of a fold (`0` to `k-1`, or `final` for all training patients) from its training cases.

    No file, label or header of another patient is opened or looked at. `manifest` has `case_id, patient_id,
    stage, site, split, fold, image, label` with paths relative to `root`; `header_factors` has `case_id` and a
    column a factor. Cases whose files cannot be used are left out, with a warning. Raises `UsageError` where
    the fold has no usable training case.
    """
    from ct_assets.learning.volumes import fingerprint, plan_rules

    chosen = settings.plan if isinstance(settings, Settings) else settings
    training = training_rows(manifest, fold).sort("case_id")
    checked = fingerprint.check(training, root, store, workers)
    usable = [one for one in checked if one.fingerprint is not None]
    if not usable:
        raise UsageError(f"fold {fold}: no usable training case; more patients or fewer folds are needed")
    prints = [one.fingerprint for one in usable if one.fingerprint is not None]
    merged = fingerprint.merge(prints)
    kept = training.filter(pl.col("case_id").is_in([one.case.case_id for one in usable]))
    headers = _header_counts(kept, header_factors)
    spacing = plan_rules.target_spacing(merged, chosen)
    intensity, warnings = plan_rules.intensity(merged, chosen)
    shape = plan_rules.median_shape(merged, spacing)
    if len(usable) < len(checked):
        warnings = (*warnings, "training_case_left_out")
    patients = sorted(set(kept["patient_id"]))
    plan = Plan(
        fold=fold,
        training_patients=len(patients),
        training_cases=kept.height,
        training_patients_digest=files.digest_of(patients),
        training_content_digest=files.digest_of([_content(kept, prints), headers]),
        target_spacing_mm=spacing,
        intensity=intensity,
        crop=Crop(mode=chosen.crop, margin_mm=chosen.crop_margin_mm),
        resampling=Resampling(image_order=chosen.image_order, outside_hu=chosen.outside_hu),
        patch_size=plan_rules.patch_size(shape, chosen),
        median_shape=shape,
        statistics={
            **merged.summary(),
            "stages": _counts(kept, "stage"),
            "sites": _counts(kept, "site"),
            "headers": headers,
        },
        settings=chosen.model_dump(mode="json", exclude={"overrides"}),
        warnings=warnings,
    ).sealed()
    if chosen.overrides is not None:
        return plan.overridden_by(_overrides(chosen.overrides), str(chosen.overrides))
    return plan


def training_rows(manifest: pl.DataFrame, fold: str) -> pl.DataFrame:
    """Return the manifest's rows that train in a fold: `split` train, and not validated by this fold."""
    training = manifest.filter(pl.col("split") == "train")
    if fold == FINAL:
        return training
    return training.filter((pl.col("fold").cast(pl.String) != fold) | pl.col("fold").is_null())


def validation_rows(manifest: pl.DataFrame, fold: str) -> pl.DataFrame:
    """Return the manifest's rows that a fold validates; none for the fold `final`."""
    return manifest.filter((pl.col("split") == "train") & (pl.col("fold").cast(pl.String) == fold))


def _content(kept: pl.DataFrame, prints: list[Any]) -> list[Any]:
    """Return what identifies everything that was read of the training cases."""
    columns = (_values(kept, name) for name in ("case_id", "patient_id", "stage", "site"))
    return [
        [*facts, one.image_digest, one.label_digest]
        for facts, one in zip(zip(*columns, strict=True), prints, strict=True)
    ]


def _values(table: pl.DataFrame, name: str) -> list[Any]:
    return table[name].to_list() if name in table.columns else [None] * table.height


def _counts(table: pl.DataFrame, name: str) -> dict[str, int]:
    """Count patients by a label; patients without one under an empty name."""
    if name not in table.columns:
        return {}
    of_patient = table.unique("patient_id", keep="first", maintain_order=True)[name].to_list()
    return dict(sorted(Counter("" if value is None else str(value) for value in of_patient).items()))


def _header_counts(kept: pl.DataFrame, factors: pl.DataFrame | None) -> dict[str, dict[str, int]]:
    if factors is None:
        return {}
    table = kept.select("case_id").join(factors, on="case_id", how="left", maintain_order="left")
    return {
        name: dict(sorted(Counter("" if value is None else str(value) for value in table[name]).items()))
        for name in sorted(set(factors.columns) - {"case_id", "patient_id"})
    }


def _overrides(path: Path) -> dict[str, Any]:
    try:
        content = files.read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: an object of plan fields is expected")
    return content


_FACTS = {
    "digest",
    "fold",
    "format",
    "inherits",
    "orientation",
    "overridden",
    "settings",
    "statistics",
    "training_cases",
    "training_content_digest",
    "training_patients",
    "training_patients_digest",
    "warnings",
}


def _explain(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
