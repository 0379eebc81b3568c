"""The job of a batch that came over the HTTP API. Wiring only; the work is in `ct_assets.serving.batches`."""

import dagster as dg

from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import running


class BatchRequest(dg.Config):
    """Which request a run answers."""

    request_id: str


@dg.op(description="Predict every series of one batch that came over the HTTP API.")
def answer_batch(
    context: dg.OpExecutionContext, config: BatchRequest, platform: dg.ResourceParam[Platform]
) -> None:
    """Predict a batch; its results and state are the API's."""
    from ct_assets.serving.batches import work

    with running(context):
        state = work(platform.settings, config.request_id)
    if state == "failed":
        raise dg.Failure(description="the batch failed; the API gives the reason", allow_retries=False)
    context.log.info(f"batch: {state}")


@dg.job(name="serving_batch", description="Answer one batch that came over the HTTP API.")
def serving_batch_job() -> None:
    """Answer one batch of the API."""
    answer_batch()
