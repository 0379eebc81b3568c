"""A system's model as MLflow loads it: code that opens a bundle. Logged as this file, never pickled."""

from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd


class SystemModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Predicts what `ct-assets predict` predicts: a row of paths in, a row an input out."""

    def load_context(self, context: Any) -> None:
        """Remember where the bundle lies."""
        self.bundle = Path(context.artifacts["bundle"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Take columns `input` and `output`; write files under `output`; return input, status and the line as JSON."""
        import json

        from ct_assets import registry
        from ct_assets.errors import UsageError
        from ct_assets.learning.models.bundle_files import load

        entry = registry.find(load(self.bundle).system)
        if entry is None or entry.predictor is None:
            raise UsageError(f"{self.bundle}: no installed system predicts with this bundle")
        predict = import_module(entry.predictor).predict
        return pd.DataFrame(
            [
                {
                    "input": wanted.input,
                    "status": str(line.get("status") or ""),
                    "prediction": json.dumps(line),
                }
                for wanted in model_input.itertuples()
                for line in predict(self.bundle, Path(wanted.input), Path(wanted.output))
            ]
        )


mlflow.models.set_model(SystemModel())
