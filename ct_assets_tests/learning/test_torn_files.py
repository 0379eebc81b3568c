"""What a power failure leaves of small files: unknown, never an error."""

import pytest

from ct_assets.learning.training import control, state, tracking

TORN = [b"", b"\0\0\0\0", b'{"pha', b"[]", b'{"phase": "no such phase"}']


@pytest.mark.parametrize("content", TORN)
def test_a_torn_state_is_no_state(tmp_path, content):
    (tmp_path / state.STATE_NAME).write_bytes(content)
    assert state.read(tmp_path) is None


@pytest.mark.parametrize("content", TORN[:4])
def test_a_torn_note_of_what_was_sent_is_nothing_sent(tmp_path, content):
    (tmp_path / tracking.SENT_NAME).write_bytes(content)
    assert tracking._read_sent(tmp_path) == {}


@pytest.mark.parametrize("content", TORN[:4])
def test_a_torn_request_pauses(tmp_path, content):
    (tmp_path / control.REQUEST_NAME).write_bytes(content)
    assert control.Control(tmp_path).pending() == "pause"


@pytest.mark.parametrize("torn", [b"\0\0\0\0\n", b'{"kind', b"\n", b"[]\n"])
def test_readable_entries_around_a_torn_one_are_kept(tmp_path, torn):
    whole = b'{"kind":"tags","values":{}}\n'
    (tmp_path / tracking.EVENTS_NAME).write_bytes(whole + torn)
    assert len(tracking._read_events(tmp_path)) == 1
    assert (tmp_path / tracking.EVENTS_NAME).read_bytes() == whole
