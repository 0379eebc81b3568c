"""Which segment is the tumour: ranked by name and code, never guessed."""

import pytest

from ct_assets.dicom.tumour import SegmentFacts, choose
from ct_assets.settings.audit import TumourSettings

NEOPLASM, ORGAN = "SCT:108369006", "SCT:39607008"
ANATOMY = "SCT:123037004"


def chosen(*labels: str, code: str = "", category: str = "", **settings: object):
    facts = [SegmentFacts(number + 1, label, code, category) for number, label in enumerate(labels)]
    return choose(facts, TumourSettings(**settings))


@pytest.mark.parametrize(
    ("labels", "tumour"),
    [
        (("GTV-1", "CTV-1"), 1),
        (("CTVp", "PTV4140", "GTVp", "LUNGS"), 3),
        (("Spinal-Cord", "Lung-Left", "GTV-1"), 3),
        (("GTV-1", "GTV-2"), 1),  # the primary tumour's usual name before any other gross volume
        (("GTV-10", "GTV-1"), 2),
        (("GTVn", "GTVp"), 2),
        (("GTV_Mass_CT", "GTV_Edema_CT"), 1),
        (("PTV-GTV", "Lung tumour"), 2),  # named first: a PTV
        (("Peritumoral fat", "Primary tumor"), 2),
        (("Left lung", "Nodule 1"), 2),
    ],
)
def test_the_best_rank_wins(labels, tumour):
    assert chosen(*labels).number == tumour


def test_names_decide_before_codes():
    assert chosen("GTV-1", "CTV-1", code=NEOPLASM).number == 1


def test_codes_decide_where_names_say_nothing():
    facts = [SegmentFacts(1, "Segment 1", ORGAN, ANATOMY), SegmentFacts(2, "Segment 2", NEOPLASM)]
    assert choose(facts, TumourSettings()).number == 2


def test_interpreted_types_of_rois_count_like_names():
    facts = [SegmentFacts(1, "A", "CTV"), SegmentFacts(2, "B", "GTV"), SegmentFacts(3, "C", "ORGAN")]
    assert choose(facts, TumourSettings()).number == 2


def test_two_of_the_best_rank_are_ambiguous():
    found = chosen("Lesion A", "Lesion B", "PTV")
    assert (found.number, found.candidates, found.reasons) == (None, (1, 2), ("tumour_segment_ambiguous",))


def test_no_name_and_no_code_is_no_tumour():
    assert chosen("Lung", "Heart").reasons == ("no_tumour_segment",)


def test_the_only_segment_is_taken_with_a_warning():
    found = chosen("Segment 1")
    assert (found.number, found.rank, found.warnings) == (1, None, ("only_segment_taken_for_tumour",))
    assert chosen("Segment 1", single_segment_is_tumour=False).number is None


def test_the_only_segment_is_not_taken_where_it_is_anatomy_or_a_node():
    assert chosen("Liver", category=ANATOMY).number is None


def test_no_segments_are_no_tumour():
    assert chosen().reasons == ("no_tumour_segment",)
