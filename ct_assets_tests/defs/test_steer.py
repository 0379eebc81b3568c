"""Pausing and stopping from another terminal: only what runs is asked."""

import os
import socket

import pytest
from filelock import FileLock

from ct_assets import files
from ct_assets.defs.engine import launch
from ct_assets.errors import UsageError
from ct_assets.learning.training.control import REQUEST_NAME
from ct_assets.learning.training.state import LOCK_NAME, STATE_NAME, TrainingState
from ct_assets.settings import load_settings


@pytest.fixture
def settings(tmp_path):
    return load_settings(environ={"CT_ASSETS_DATA": str(tmp_path)})


def write_state(settings, fold, phase, pid):
    folder = settings.layout.fold_model("lung", fold)
    state = TrainingState(phase=phase, pid=pid, host=socket.gethostname())
    files.write_json(folder / STATE_NAME, state.model_dump(mode="json"))
    return folder


def test_only_the_fold_that_is_being_trained_is_asked(settings):
    done = write_state(settings, "0", "finished", os.getpid())
    running = write_state(settings, "1", "training", os.getpid())
    with FileLock(str(running / LOCK_NAME)):  # what a training holds as long as it lives
        launch.steer(settings, "lung", None, "pause")
    assert files.read_json(running / REQUEST_NAME) == {"request": "pause"}
    assert not (done / REQUEST_NAME).exists()


@pytest.mark.parametrize("fold", [None, "0"])
def test_where_nothing_is_being_trained_the_user_is_told(settings, fold):
    write_state(settings, "0", "training", os.getpid())
    with pytest.raises(UsageError, match=r"nothing of lung.* is being trained"):
        launch.steer(settings, "lung", fold, "stop")
