"""The registry of reason codes: every disposition, refusal and warning that a table may carry.

Belongs here: code, stage, one sentence of what it means, and what the user can do. A code has one meaning
everywhere (tables, logs, pages, documentation); a stage's codes stand in a file of its own beside this one.
"""

from dataclasses import dataclass

from ct_assets.reasons import (
    brain,
    cohort,
    deid,
    folds,
    intake,
    learning,
    longitudinal,
    masks,
    neuro,
    nodules,
    series,
    service,
    serving,
    volumes,
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason code."""

    code: str
    stage: str
    meaning: str
    mend: str


class UnknownReasonError(KeyError):
    """A code that the registry does not know."""


def reason(code: str) -> Reason:
    """Return the registered reason. Raises `UnknownReasonError` for a code that is not registered."""
    try:
        return _BY_CODE[code]
    except KeyError:
        raise UnknownReasonError(f"{code}: not in ct_assets.reasons") from None


def explain(codes: list[str]) -> str:
    """Return the meanings of `codes` as one sentence a code, for people."""
    return " ".join(f"{reason(code).meaning} {reason(code).mend}".strip() for code in codes)


def all_reasons() -> tuple[Reason, ...]:
    """Return every registered reason, by stage in the order of the pipeline."""
    return tuple(_BY_CODE.values())


_BY_CODE: dict[str, Reason] = {}
for _stage in (
    intake,
    deid,
    series,
    masks,
    volumes,
    cohort,
    folds,
    learning,
    neuro,
    brain,
    nodules,
    longitudinal,
    service,
    serving,
):
    for _code, _meaning, _mend in _stage.REASONS:
        if _code in _BY_CODE:
            raise ValueError(f"reason code registered twice: {_code}")
        _BY_CODE[_code] = Reason(_code, _stage.__name__.rpartition(".")[2], _meaning, _mend)
