import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ct_assets.deid.elements import table
from ct_assets.deid.elements.rules import Do, Rules
from ct_assets.errors import UsageError
from ct_assets.settings.deid import DeidProfile, SiteRule
from ct_assets_tests.deid.made import CT, SEG, SR


def rule(keyword, profile=None, *, sop_class=CT, path="", vr=None):
    tag = tag_for_keyword(keyword)
    types = table.load().types_of(sop_class)
    return Rules(profile or DeidProfile()).rule_for(tag, vr or dictionary_VR(tag), path, types, False)


BASIC = DeidProfile(
    retain_longitudinal="no",
    retain_patient_characteristics=False,
    clean_descriptors=False,
    retain_safe_private=False,
)


class TestTheBasicProfile:
    @pytest.mark.parametrize(
        ("keyword", "expected"),
        [
            ("PatientBirthName", Do.REMOVE),
            ("AccessionNumber", Do.EMPTY),
            ("StudyInstanceUID", Do.UID),
            ("PatientAge", Do.REMOVE),
            ("StudyDescription", Do.REMOVE),
            ("StudyDate", Do.EMPTY),
            ("InstitutionName", Do.REMOVE),  # X/Z/D, Type 3 in a CT
            ("SourceImageSequence", Do.DESCEND),  # X/Z/U*: references stay, their UIDs are replaced
            ("KVP", Do.NUMBER),
            ("Manufacturer", Do.VALUE),
        ],
    )
    def test_carries_out_the_table(self, keyword, expected):
        assert rule(keyword, BASIC).do is expected

    def test_compound_actions_follow_the_type(self):
        assert rule("ContentDate", BASIC, sop_class=SEG).do is Do.DUMMY  # Z/D, Type 1
        assert rule("ContentDate", BASIC, sop_class=CT).do in (Do.EMPTY, Do.DUMMY)
        assert rule("ContentCreatorName", BASIC, sop_class=SEG).do is not Do.REMOVE  # Z/D, Type 2


class TestEachOption:
    @pytest.mark.parametrize(
        ("option", "keyword", "expected"),
        [
            ({"retain_longitudinal": "modified"}, "StudyDate", Do.SHIFT),
            ({"retain_longitudinal": "full"}, "StudyDate", Do.TIME),
            ({"retain_patient_characteristics": True}, "PatientAge", Do.AGE),
            ({"retain_patient_characteristics": True}, "PatientSex", Do.SEX),
            ({"clean_descriptors": True}, "StudyDescription", Do.CLEAN),
            ({"clean_descriptors": True}, "ImageComments", Do.CLEAN_WHOLE),
            ({"clean_descriptors": True}, "ROIName", Do.RESEARCH_LABEL),
            ({"retain_device_identity": True}, "DeviceSerialNumber", Do.KEEP),
            ({"retain_device_identity": True}, "StationName", Do.KEEP),
            ({"retain_institution": True}, "InstitutionName", Do.KEEP),
            ({"retain_uids": True}, "StudyInstanceUID", Do.KEEP),
            ({"clean_structured_content": True}, "ContentSequence", Do.DESCEND),
            ({"clean_graphics": True}, "GraphicAnnotationSequence", Do.DESCEND),
        ],
    )
    def test_changes_what_the_table_says_it_changes(self, option, keyword, expected):
        assert rule(keyword, BASIC.model_copy(update=option), sop_class=SR).do is expected
        assert rule(keyword, BASIC, sop_class=SR).do is not expected

    def test_never_keeps_a_birth_date(self):
        everything = DeidProfile(
            retain_longitudinal="full", retain_device_identity=True, retain_institution=True
        )
        assert rule("PatientBirthDate", everything).do is Do.EMPTY


class TestAttributesThatTheTableForgets:
    @pytest.mark.parametrize("keyword", ["EvaluatorName", "SecondaryReviewerName"])
    def test_persons_names_are_replaced(self, keyword):
        assert rule(keyword).do is Do.DUMMY

    @pytest.mark.parametrize("keyword", ["TargetFrameOfReferenceUID", "AssertionUID"])
    def test_uids_of_things_are_replaced(self, keyword):
        assert rule(keyword).do is Do.UID

    @pytest.mark.parametrize("keyword", ["SOPClassUID", "CodingSchemeUID", "ContextUID"])
    def test_uids_of_kinds_stay(self, keyword):
        assert rule(keyword).do is Do.KEEP

    def test_dates_are_shifted(self):
        assert rule("DateOfGainCalibration").do is Do.SHIFT

    def test_the_patients_other_calendar_goes(self):
        assert rule("PatientBirthDateInAlternativeCalendar").do is Do.REMOVE

    def test_an_attribute_that_no_dictionary_knows_goes(self):
        types = table.load().types_of(CT)
        assert Rules(DeidProfile()).rule_for(0x00090FFE - 0x10000, "LO", "", types, False).do is Do.REMOVE


class TestPrivateElements:
    def test_are_denied_by_default(self):
        assert Rules(DeidProfile()).private_rule("ACME", 0x00291010)[0].do is Do.REMOVE
        assert Rules(DeidProfile()).private_rule(None, 0x00411001)[0].do is Do.REMOVE

    @pytest.mark.parametrize("tag", [0x00191023, 0x0019AB23])
    def test_of_the_safe_list_stay_wherever_their_block_lies(self, tag):
        rules = Rules(DeidProfile())
        assert rules.private_rule("GEMS_ACQU_01", tag)[0].do is Do.KEEP
        assert rules.private_rule("ACME", tag)[0].do is Do.REMOVE

    def test_of_the_safe_list_that_are_binary_go(self):
        assert Rules(DeidProfile()).private_rule("HOLOGIC, Inc.", 0x7E011012)[0].do is Do.REMOVE

    def test_the_site_may_add_its_own(self):
        safe = {"creator": "ACME", "group": "0029", "element": "10"}
        rules = Rules(DeidProfile.model_validate({"safe_private": [safe]}))
        assert rules.private_rule("acme ", 0x00291110)[0].do is Do.KEEP
        assert rules.private_rule("acme ", 0x00291111)[0].do is Do.REMOVE


class TestSiteRules:
    def of(self, *rules, **profile):
        return Rules(DeidProfile(site_rules=tuple(SiteRule(**rule) for rule in rules), **profile))

    @pytest.mark.parametrize(
        ("rules", "said"),
        [
            ([{"keyword": "PatientBirthName", "action": "keep"}], "PatientBirthName .0010,1005. contradicts"),
            ([{"tag": "(0008,0080)", "action": "keep"}], "retain_institution"),
            ([{"tag": "60003000", "action": "keep"}], "contradicts"),
            ([{"keyword": "PixelSpacing", "action": "remove"}], "unusable"),
            ([{"keyword": "PatientID", "action": "replace", "value": "X"}], "follows from the profile"),
            ([{"keyword": "DeidentificationMethod", "action": "remove"}], "follows from the profile"),
            ([{"keyword": "Nonsense", "action": "remove"}], "no keyword"),
            ([{"tag": "00091010", "action": "remove"}], "is private"),
            ([{"keyword": "KVP", "action": "remove"}] * 2, "a second rule"),
            ([{"keyword": "Rows", "action": "replace", "value": "1"}], "unusable"),
            ([{"keyword": "BodyPartExamined", "action": "replace", "value": "x" * 17}], "at most 16"),
        ],
    )
    def test_that_contradict_are_refused_by_name(self, rules, said):
        with pytest.raises(UsageError, match=said):
            self.of(*rules)

    def test_keep_remove_replace(self):
        rules = self.of(
            {"keyword": "KVP", "action": "remove"},
            {"tag": "0018,1020", "action": "replace", "value": "1"},
            {"keyword": "StudyDescription", "action": "keep"},
            {"private_creator": "ACME", "action": "keep"},
        )
        types = table.load().types_of("1.2.3")
        assert rules.rule_for(0x00180060, "DS", "", types, False).do is Do.REMOVE
        assert rules.rule_for(0x00181020, "LO", "", types, False).value == "1"
        assert rules.rule_for(0x00081030, "LO", "", types, False).do is Do.KEEP
        assert rules.private_rule("ACME", 0x00291010)[0].do is Do.KEEP

    def test_a_rule_without_one_target_is_refused(self):
        with pytest.raises(ValueError, match="exactly one"):
            SiteRule(action="remove", tag="00180060", keyword="KVP")
        with pytest.raises(ValueError, match="value belongs"):
            SiteRule(action="remove", keyword="KVP", value="1")
