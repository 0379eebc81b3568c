"""The platform's settings: one field a section, each section declared in its own file beside this one."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ct_assets.layout import Layout
from ct_assets.settings.alerts import AlertSettings
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.base import Section
from ct_assets.settings.brain import BrainSettings
from ct_assets.settings.cohort import EligibilitySettings, LabelSettings
from ct_assets.settings.conversion import ConversionSettings
from ct_assets.settings.folds import DerivedSettings, DriftSettings, PlanSettings, SplitSettings
from ct_assets.settings.keeping import KeepingSettings
from ct_assets.settings.longitudinal import LongitudinalSettings
from ct_assets.settings.neuro import NeuroSettings
from ct_assets.settings.nodules import NoduleSettings
from ct_assets.settings.receive import ReceiveSettings
from ct_assets.settings.service import Resources, ServiceSettings
from ct_assets.settings.serving import ServingSettings
from ct_assets.settings.storage import StorageSettings, is_url


class DeidLocation(Section):
    """Where the de-identification's own settings lie (`deid:`)."""

    profile: Path = Path("deid.yaml")
    """The profile file; its content is `ct_assets.settings.deid.DeidProfile`."""
    key_file: Path | None = None
    """The secret key's file, used where `CT_ASSETS_DEID_KEY` is not set; keep it apart from the data."""


class IntakeSettings(Section):
    """How batches arrive (`intake:`)."""

    settle_seconds: int = Field(default=120, ge=0)
    """A folder without a marker counts as complete when it has not changed for so long."""


class TrackingSettings(Section):
    """The MLflow tracking server (`tracking:`)."""

    uri: str | None = None
    """Any MLflow tracking URI; without one an sqlite file under the data root."""


class ExecutionSettings(Section):
    """How runs use the machine (`execution:`)."""

    workers: int | None = Field(default=None, ge=1)
    """Worker processes of a stage; by default the processors at hand."""
    executor: Literal["in_process", "forkserver"] = "in_process"
    """Steps of one run in one process, or each in its own, forked from a server that has loaded the code."""
    resources: dict[str, Resources] = {}
    """What single assets ask of a cluster (Ray, Kubernetes), where it differs from `defs.engine.resources`."""


class Settings(Section):
    """Everything that `configs/local.yaml` and its siblings may say."""

    data_root: Path = Path("../data")
    """The folder that holds everything; see `ct_assets.layout`. In the file it may be a store (`az://…`,
    `s3://…`): here then stands the working copy, and the store under `storage.url`."""
    storage: StorageSettings = StorageSettings()
    deid: DeidLocation = DeidLocation()
    intake: IntakeSettings = IntakeSettings()
    receive: ReceiveSettings = ReceiveSettings()
    audit: AuditSettings = AuditSettings()
    labels: LabelSettings = LabelSettings()
    eligibility: EligibilitySettings = EligibilitySettings()
    conversion: ConversionSettings = ConversionSettings()
    splits: SplitSettings = SplitSettings()
    plan: PlanSettings = PlanSettings()
    drift: DriftSettings = DriftSettings()
    derived: dict[str, DerivedSettings] = {}
    training: Path = Path("train/cpu.yaml")
    """The training configuration used where none is named (`ct_assets.settings.training`)."""
    neuro: NeuroSettings = NeuroSettings()
    keeping: KeepingSettings = KeepingSettings()
    brain: BrainSettings = BrainSettings()
    nodules: NoduleSettings = NoduleSettings()
    longitudinal: LongitudinalSettings = LongitudinalSettings()
    tracking: TrackingSettings = TrackingSettings()
    execution: ExecutionSettings = ExecutionSettings()
    service: ServiceSettings = ServiceSettings()
    alerts: AlertSettings = AlertSettings()
    serving: ServingSettings = ServingSettings()

    @model_validator(mode="before")
    @classmethod
    def _store_and_working_copy(cls, content: Any) -> Any:
        """Part a data root in a store into its URL and the working copy on this machine."""
        if not isinstance(content, dict) or not is_url(content.get("data_root")):
            return content
        storage = content.get("storage") or {}
        storage = {**storage, "url": content["data_root"]} if isinstance(storage, dict) else storage
        given = storage.get("work_root") if isinstance(storage, dict) else None
        work_root = given or StorageSettings.model_fields["work_root"].default
        return {**content, "data_root": work_root, "storage": storage}

    @property
    def layout(self) -> Layout:
        """The paths under the data root."""
        return Layout(self.data_root)

    def resolved_against(self, folder: Path) -> "Settings":
        """Return the settings with every relative path made absolute against `folder`."""
        labels = self.labels
        if labels.csv is not None:
            labels = labels.model_copy(update={"csv": _resolve(folder, labels.csv)})
        eligibility = self.eligibility
        neuro = {"data_dir": self.neuro.data_dir, "modes": self.neuro.modes}
        return self.model_copy(
            update={
                "data_root": _resolve(folder, self.data_root),
                "storage": self.storage.model_copy(
                    update={"work_root": _resolve(folder, self.storage.work_root)}
                ),
                "receive": self.receive.resolved_against(folder),
                "deid": self.deid.model_copy(
                    update={
                        "profile": _resolve(folder, self.deid.profile),
                        "key_file": self.deid.key_file and _resolve(folder, self.deid.key_file),
                    }
                ),
                "labels": labels,
                "eligibility": eligibility.model_copy(update={"query": _resolve(folder, eligibility.query)}),
                "neuro": self.neuro.model_copy(
                    update={key: path and _resolve(folder, path) for key, path in neuro.items()}
                ),
                "brain": self.brain.model_copy(
                    update={
                        "data_dir": self.brain.data_dir and _resolve(folder, self.brain.data_dir),
                        "config": self.brain.config.resolved_against(folder),
                    }
                ),
                "nodules": self.nodules.model_copy(
                    update={
                        "images": self.nodules.images and _resolve(folder, self.nodules.images),
                        "annotations": self.nodules.annotations
                        and _resolve(folder, self.nodules.annotations),
                    }
                ),
                "longitudinal": self.longitudinal.resolved_against(folder),
                "splits": self.splits.model_copy(
                    update={"given": self.splits.given and _resolve(folder, self.splits.given)}
                ),
                "plan": self.plan.model_copy(
                    update={"overrides": self.plan.overrides and _resolve(folder, self.plan.overrides)}
                ),
                "training": _resolve(folder, self.training),
            }
        )


def _resolve(folder: Path, path: Path) -> Path:
    return Path(path if path.is_absolute() else folder / path).resolve()
