"""What becomes of a model that learned from somebody who has withdrawn."""

import pytest

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.layout import WITHDRAWALS_NAME, Layout
from ct_assets.reports.status import collect
from ct_assets.settings import load_settings


def test_status_asks_for_a_new_experiment_instead_of_a_promotion(tmp_path):
    layout = Layout(tmp_path / "data")
    for name in ("marked", "other"):
        folder = layout.fold_model(name, "0")
        folder.mkdir(parents=True)
        (folder / "predictions.parquet").touch()
        files.write_json(layout.experiment(name) / "configuration.json", {})
        layout.final_model(name).mkdir()
    files.write_json(layout.experiment("marked") / WITHDRAWALS_NAME, {})
    told = collect(load_settings(environ={"CT_ASSETS_DATA": str(layout.root)})).to_do
    assert [line for line in told if "marked" in line and "withdrawn" in line and "promote" not in line]
    assert [line for line in told if "other" in line and "promote" in line]


@pytest.mark.slow
def test_promoting_it_is_refused_and_the_champion_stays(tmp_path):
    from ct_assets.learning.models import registry
    from ct_assets.learning.training import tracking

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = tracking.client(uri)
    client.create_registered_model("lung")
    for _ in range(2):
        client.create_model_version("lung", source=str(tmp_path), run_id=None)
    registry.promote(uri, "lung", version="1")
    client.set_registered_model_alias("lung", registry.CANDIDATE, "2")
    client.set_model_version_tag("lung", "2", registry.WITHDRAWN_TAG, "1")
    with pytest.raises(UsageError, match="learned from people who have withdrawn"):
        registry.promote(uri, "lung")
    assert str(client.get_model_version_by_alias("lung", registry.CHAMPION).version) == "1"
