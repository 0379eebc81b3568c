"""What `ct-assets predict` calls for a bundle of the toy system: an input is a text file with one number."""

import polars as pl

from ct_assets.learning.models import bundle_files
from ct_assets.learning.system import Examples
from ct_assets_tests.systems.toy.system import SYSTEM


def predict(folder, input_path, output_dir, **_):
    model = bundle_files.open_model(SYSTEM, folder)
    table = pl.DataFrame({"example_id": ["one"], "patient_id": [""], "role": ["test"], "target": [None]})
    table = table.with_columns(x=float(input_path.read_text()))
    rows = SYSTEM.predictor(model, "cpu")(Examples(table), output_dir)
    return [{"status": "predicted", "prob": rows["prob"][0]}]
