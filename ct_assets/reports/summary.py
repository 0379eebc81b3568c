"""The result of an experiment in one sentence, for its page, the index of pages and the terminal.

Belongs here: choosing and wording what a report's JSON holds. Nothing is computed.
"""

from typing import Any

from ct_assets.reports.page import metric_text

BASELINES = {"threshold_in_lung": "a threshold in the lung"}


def result_sentence(content: dict[str, Any]) -> str:
    """Return what an experiment's report says first: Dice, missed lesions, the baseline, the stage."""
    where = "On the test split" if content["kind"] == "test" else "Out of fold"
    metrics = _pooled(content, "segmentation", "model")
    parts = [
        f"{where}, the model reaches Dice {metric_text(metrics.get('dice'))} on {content['patients']} patients"
    ]
    if _has_value(metrics.get("lesion_miss_rate")):
        parts.append(f"and misses a share of {metric_text(metrics['lesion_miss_rate'])} of the lesions")
    sentence = " ".join(parts)
    for name, title in BASELINES.items():
        baseline = _pooled(content, "segmentation", name).get("dice")
        if _has_value(baseline):
            sentence += f"; {title} reaches Dice {metric_text(baseline)}"
    auroc = _pooled(content, "stage", "model").get("auroc_macro")
    if _has_value(auroc):
        sentence += f"; AUROC of the TNM stage {metric_text(auroc)}"
    return f"{sentence}."


def _pooled(content: dict[str, Any], group: str, model: str) -> dict[str, Any]:
    pooled: dict[str, Any] = content.get(group, {}).get(model, {}).get("pooled", {})
    return pooled


def _has_value(metric: dict[str, Any] | None) -> bool:
    return metric is not None and metric.get("value") is not None
