"""The command `ct-assets brain run`: its arguments as options, configuration and grid.

Belongs here: reading what a person typed. What is done with it is in `brain.pipeline`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.settings.brain import CANDIDATES, BrainConfig, RunOptions
from ct_assets.systems.brain import pipeline

OUTPUTS = Path("outputs")
TRACKING_VARIABLE = "CT_ASSETS_TRACKING_URI"
"""The tracking server of a run, where one is named."""
NOT_OPTIONS = ("data_root", "run_grid", "config_json")


def run(arguments: Mapping[str, Any], *, keep_fold_models: bool = False) -> Path:
    """Run the pipeline with the command's fifteen arguments; return the run's folder.

    Raises `UsageError` for an argument out of range or a configuration with an unknown key.
    """
    job = job_of(arguments, keep_fold_models=keep_fold_models)
    folder = pipeline.run(job, OUTPUTS, progress.Timings())
    for name in ("cv_report.html", "test_report.html", "bundle"):
        progress.say(f"  {folder / name}")
    return folder


def job_of(arguments: Mapping[str, Any], *, keep_fold_models: bool = False) -> pipeline.Run:
    """Return the run that arguments describe."""
    try:
        options = RunOptions.model_validate(
            {key: value for key, value in arguments.items() if key not in NOT_OPTIONS}
        )
    except ValidationError as error:
        told = "; ".join(
            f"--{'-'.join(str(part) for part in problem['loc']).replace('_', '-')}: {problem['msg']}, "
            f"got {problem['input']!r}"
            for problem in error.errors()
        )
        raise UsageError(told) from None
    config = BrainConfig()
    if arguments["config_json"] is not None:
        config = pipeline.read_config(Path(arguments["config_json"]), config)
    candidates = None
    if arguments["run_grid"]:
        candidates = {name: config.overridden(changes, name) for name, changes in CANDIDATES.items()}
    return pipeline.Run(
        data_root=Path(arguments["data_root"]),
        options=options,
        config=config,
        candidates=candidates,
        arguments={key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()},
        keep_fold_models=keep_fold_models,
        tracking_uri=os.environ.get(TRACKING_VARIABLE),
    )
