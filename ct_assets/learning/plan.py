"""A fold's plan: how volumes become network input, decided by its training patients and settings alone.

Belongs here: the value object `Plan`, its file and digest, the rules that turn a merged fingerprint into
target spacing, intensities, crop and patch size. Does not: reading images (`learning.fingerprint`) or
resampling them (`learning.fold_volumes`).

The rules follow the published idea of a data fingerprint (Isensee et al., nnU-Net, Nature Methods 18, 2021),
with one difference in kind: here the fingerprint is of the fold's training patients only.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import ValidationError

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings.base import Section
from ct_assets.settings.folds import PlanSettings
from ct_assets.settings.platform import Settings

if TYPE_CHECKING:
    from ct_assets.learning.fingerprint import Merged

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
    """Null for `per_case`: each case's own mean of the clipped body voxels."""
    divide: float | None
    """Null for `per_case`: each case's own standard deviation of the clipped body voxels."""
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
        clipped = np.clip(hu, np.float32(self.lower_hu), np.float32(self.upper_hu), dtype=np.float32)
        clipped -= np.float32(subtract)
        clipped *= np.float32(1 / divide)
        return clipped

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
