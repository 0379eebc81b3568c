"""A multi-frame image in several objects is whole, or refused."""

import pytest

from ct_assets.dicom.concatenations import are_whole


def part(number, total=3, offset=None, frames=4, uid="1.2"):
    return {
        "concatenation_uid": uid,
        "in_concatenation_number": number,
        "in_concatenation_total_number": total,
        "concatenation_frame_offset": offset,
        "number_of_frames": frames,
    }


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [part(None, uid=None), part(None, uid=None)],
        [part(1), part(2), part(3)],
        [part(3), part(1), part(2)],
        [part(1, None), part(2, None)],
        [part(1, 2, 0), part(2, 2, 4)],
        [part(1, 1), part(1, 1, uid="1.3")],
        [part(1, 3, 0, 2), part(2, 3, 2, 5), part(3, 3, 7, 1)],
    ],
)
def test_whole(parts):
    assert are_whole(parts)


@pytest.mark.parametrize(
    "parts",
    [
        [part(1), part(2)],
        [part(2), part(3)],
        [part(2)],
        [part(1), part(3)],
        [part(1), part(1), part(2)],
        [part(1, None), part(3, None)],
        [part(2, None)],
        [part(1, 2), part(2, 3)],
        [part(None)],
        [part(1, None, 4)],
        [part(1, 2, 0), part(2, 2, 8)],
        [part(1, 1), part(1, 2, uid="1.3")],
    ],
)
def test_not_whole(parts):
    assert not are_whole(parts)
