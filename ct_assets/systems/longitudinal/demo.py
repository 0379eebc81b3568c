"""`ct-assets longitudinal demo`: from two scans of invented patients to a page that says where the model loses.

Belongs here: the demo's own folder, its settings, the order of its steps, the summary. Everything else is what the
commands and assets do; the cohort is `ct_assets.phantom.followup`.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct_assets import files, parallel, progress
from ct_assets.errors import UsageError
from ct_assets.settings.longitudinal import (
    AutoencoderConfig,
    FlowConfig,
    LoadingSettings,
    LongitudinalValidation,
    PatchSettings,
)
from ct_assets.settings.training import OptimizerSettings, TrainingStage

ROOT = Path("build/longitudinal_demo")
MARK_NAME = "longitudinal_demo.json"
"""The sign of a folder that a demo made."""
AUTOENCODER, FLOW = "autoencoder", "flow"


@dataclass(frozen=True)
class Scale:
    """How large the demo is."""

    patients: int = 62
    """Half of them are for the test: fewer than thirty give no interval."""
    nodules: int = 8
    flow_epochs: int = 40
    autoencoder_epochs: int = 12
    seed: int = 5


@dataclass
class Summary:
    """What the demo ended with."""

    root: Path
    seconds: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def page(self) -> Path:
        """The page of the evaluation."""
        return self.root / "reports" / FLOW / "index.html"


def patch_settings() -> PatchSettings:
    """Return crops of 24 mm in voxels of 2 mm: the phantom's nodules are up to 15 mm wide."""
    return PatchSettings(shape=(12, 12, 12), spacing_mm=(2.0, 2.0, 2.0))


def flow_config(epochs: int, seed: int = 0) -> FlowConfig:
    """Return a paired flow of crops that a CPU trains in two minutes."""
    return FlowConfig(
        seed=seed,
        channels=(8, 16, 32),
        embedding=32,
        stages=(TrainingStage(epochs=epochs),),
        optimizer=OptimizerSettings(
            learning_rate=2e-3, weight_decay=1e-4, warmup_share=0.1, final_share=0.04
        ),
        ema_decay=0.99,
        region_margin=2,
        validation=LongitudinalValidation(every_epochs=max(1, epochs // 4), monitor="change_error"),
        sampling=LoadingSettings(batch_size=16),
    )


def autoencoder_config(epochs: int, seed: int = 0) -> AutoencoderConfig:
    """Return a small autoencoder, to show its gate."""
    return AutoencoderConfig(
        seed=seed,
        channels=(8, 16),
        latent_channels=4,
        stages=(TrainingStage(epochs=epochs),),
        optimizer=OptimizerSettings(
            learning_rate=3e-3, weight_decay=1e-5, warmup_share=0.1, final_share=0.04
        ),
        ema_decay=0.99,
        validation=LongitudinalValidation(every_epochs=max(1, epochs // 2)),
        sampling=LoadingSettings(batch_size=32),
    )


def refuse_foreign(root: Path) -> None:
    """Raise `UsageError` for a folder that holds something and was not made by an earlier demo."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not (root / MARK_NAME).is_file():
        raise UsageError(
            f"{root}: holds something, and is not the folder of an earlier demo; nothing was touched. Set "
            "CT_ASSETS_DATA to another folder, or unset it"
        )


def run(root: Path | None = None, scale: Scale | None = None, *, workers: int | None = None) -> Summary:
    """Run the demo in its own folder (`CT_ASSETS_DATA`, else `build/longitudinal_demo`) and print the summary."""
    from ct_assets.phantom import followup
    from ct_assets.systems.longitudinal import (
        build_tables,
        evaluation,
        page,
        patch_store,
        registrations,
        training,
    )

    root = root or Path(os.environ.get("CT_ASSETS_DATA", str(ROOT)))
    scale = scale or Scale()
    workers = workers or parallel.default_workers()
    refuse_foreign(root)
    if root.exists():
        shutil.rmtree(root)
    files.write_json(root / MARK_NAME, vars(scale))
    summary = Summary(root)
    places = {
        name: root / name for name in ("phantom", "tables", "registrations", "patches", "models", "reports")
    }

    def step(number: int, title: str, function: Callable[[], Any]) -> Any:
        progress.say(f"[{number}/7] {title}")
        started = time.monotonic()
        result = function()
        summary.seconds[title] = time.monotonic() - started
        return result

    cohort = followup.cohort(scale.patients, scale.seed, scale.nodules)
    scans = step(1, "phantom", lambda: followup.write(places["phantom"], cohort, workers=workers))
    step(2, "tables", lambda: build_tables.run(scans.exams, scans.tracking, places["tables"]))
    registered = step(
        3, "registration",
        lambda: registrations.write(places["tables"], places["registrations"], images=scans.images, workers=workers),
    )  # fmt: skip
    progress.say(f"  {dict(registered.statuses)}")
    cut = step(
        4, "crops of pairs",
        lambda: patch_store.write(
            places["tables"], places["registrations"], scans.tracking, scans.images, places["patches"],
            patch_settings(), workers=workers,
        ),
    )  # fmt: skip
    progress.say(f"  {cut.pairs} pairs, {cut.unusable} that cannot be used")
    gate = step(
        5, "autoencoder and its gate",
        lambda: training.train_autoencoder(
            places["patches"], places["models"] / AUTOENCODER, autoencoder_config(scale.autoencoder_epochs)
        ),
    )  # fmt: skip
    step(
        6, "flow", lambda: training.train_flow(places["patches"], places["models"] / FLOW, flow_config(scale.flow_epochs))
    )  # fmt: skip
    done = step(7, "evaluation", lambda: evaluation.run(places["patches"], places["models"] / FLOW))
    evaluation.write(done, summary.page.parent)
    page.write(done, patch_store.read(places["patches"], "test"), summary.page.parent, gate.json())
    summary.report = done.report
    _print(summary, gate.is_passed)
    return summary


def _print(summary: Summary, is_passed: bool) -> None:
    from ct_assets.systems.longitudinal import page

    for title, seconds in summary.seconds.items():
        progress.say(f"  {title:<26} {seconds:6.1f} s")
    progress.say(f"  {'together':<26} {sum(summary.seconds.values()):6.1f} s")
    progress.say(
        f"  autoencoder: {'passed its gate' if is_passed else 'below its gate, latents are refused'}"
    )
    for line in page.summary(summary.report):
        progress.say(f"  {line}")
    shown = os.path.relpath(summary.page)
    progress.say(f"  the page                   {shown}")
    progress.say("  next: ct-assets longitudinal tables EXAMS TRACKING OUT_DIR with your own exams")
