"""The brain model as MLflow loads it: code that opens a bundle. Logged as this file, never pickled."""

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd

OUTPUTS = ("series", "status", "probability", "is_positive")


class BrainBundleModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Predicts what `ct-assets predict` predicts: a row of paths in, a row a series out."""

    def load_context(self, context: Any) -> None:
        """Remember where the bundle lies."""
        self.bundle = Path(context.artifacts["bundle"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Take columns `input` and `output`; write files under `output`; return a row a series."""
        from ct_assets.systems.brain.predict import predict

        rows = []
        for wanted in model_input.itertuples():
            for line in predict(self.bundle, Path(wanted.input), Path(wanted.output)):
                rows.append({name: "" if line[name] is None else str(line[name]) for name in OUTPUTS})
        return pd.DataFrame(rows)


mlflow.models.set_model(BrainBundleModel())
