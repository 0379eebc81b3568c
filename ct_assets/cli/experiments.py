"""The commands over experiments that are evaluated: compare.

Belongs here: their options, a few lines each, as in `ct_assets.cli`, which takes them in.
"""

from typing import Annotated

import typer

from ct_assets.cli.options import Config

app = typer.Typer()


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="An experiment with a cross-validation report.")],
    second: Annotated[str, typer.Argument(help="The one to compare it with.")],
    config: Config = None,
) -> None:
    """Compare two experiments on the same patients: paired differences with intervals, and a page."""
    from ct_assets.learning.evaluation.compare import compare as compare_experiments
    from ct_assets.lifecycle.schema import refuse_other
    from ct_assets.reports import comparison, index
    from ct_assets.settings import load_settings
    from ct_assets.settings.training import load_training_config
    from ct_assets.storage import session

    settings = load_settings(config)
    with session.opened(settings, ("platform.json", "models/*", "reports/*")):
        refuse_other(settings.layout)
        confidence = load_training_config(settings.training).evaluation.confidence
        content = compare_experiments(settings.layout, first, second, confidence=confidence)
        page = comparison.write(content, settings.layout)
        index.write(settings.layout)
        print(content["verdict"])
        print(f"page: {page}")
