"""What state a training is in, from the run of the graph and the training's own state file, and what may be done then.

Belongs here: the one state of a session and the table of legal transitions. A paused training ends its run as a failure;
here it is `paused`, and going on is a new run of the same session.
"""

from typing import Literal

from ct_assets.learning.training.state import TrainingState

SessionState = Literal["queued", "running", "pausing", "stopping", "paused", "stopped", "finished", "failed"]
Wish = Literal["pause", "resume", "stop"]

ALLOWED: dict[str, tuple[Wish, ...]] = {
    "queued": ("pause", "stop"),
    "running": ("pause", "stop"),
    "pausing": ("stop",),
    "stopping": (),
    "paused": ("resume", "stop"),
    "stopped": (),
    "finished": (),
    "failed": ("resume",),
}
"""What may be asked for in each state; everything else is answered 409 with this list."""
ENDED = ("stopped", "finished")
WAITING = ("QUEUED", "NOT_STARTED", "STARTING", "MANAGED")


def state_of(run: str | None, training: TrainingState | None, wish: str | None) -> SessionState:
    """Return the state of a session.

    `run` is the status of its latest run (None before a launch), `training` what the training's folder says, `wish`
    what was asked last.
    """
    if run is None or run in WAITING:
        return "paused" if wish == "pause" else "stopped" if wish == "stop" else "queued"
    if run in ("STARTED", "CANCELING"):
        if wish == "pause":
            return "pausing"
        return "stopping" if wish == "stop" or run == "CANCELING" else "running"
    phase = None if training is None else training.phase
    if phase == "paused" or (run == "CANCELED" and wish == "pause"):
        return "stopped" if wish == "stop" else "paused"
    if phase == "stopped" or wish == "stop":
        return "stopped"
    return "finished" if run == "SUCCESS" else "failed"
