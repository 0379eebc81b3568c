"""Head CT of the platform's own batches: which slices, whose label, and why not."""

import polars as pl
import pytest
from pydicom.uid import generate_uid

from ct_assets.dicom import index as headers
from ct_assets.errors import UsageError
from ct_assets.phantom import head
from ct_assets.settings.audit import AuditSettings
from ct_assets.systems.brain import batches, features
from ct_assets_tests.systems.brain.factories import dicom
from ct_assets_tests.systems.brain.factories import head as head_hu

BODY = ("HEAD", "BRAIN", "SKULL")


def released(root):
    """A tilted head series of one patient, a chest slice of another, a head of one without label."""
    rng = head.np.random.default_rng(1)
    patient = head.invent(2, rng, is_positive=True, matrix=48)
    head.write_series(root / "a", patient, "series")
    for name, body, who in (("chest", "CHEST", "P2"), ("other", "HEAD", "P3")):
        dicom(
            root / f"b/{name}.dcm", head_hu(), PatientID=who, BodyPartExamined=body,
            StudyInstanceUID=generate_uid(entropy_srcs=[name]), SeriesInstanceUID=generate_uid(entropy_srcs=[f"s{name}"]),
        )  # fmt: skip
    labels = pl.DataFrame(
        {"patient_id": [patient.person.patient_id, "P2", "P3"], "brain_label": ["1", "0", None]}
    )
    return headers.scan(root, root=root, workers=1), labels


def items(index, labels, **changes):
    arguments = {"label_column": "brain_label", "body_parts": BODY, "audit": AuditSettings()} | changes
    return batches.items(index, labels, **arguments)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    root = tmp_path_factory.mktemp("released")
    return root, *released(root)


class TestItems:
    def test_a_patients_label_stands_on_each_slice_of_theirs(self, delivered):
        _, index, labels = delivered
        found = items(index, labels)
        heads = [one for one in found if one.path.startswith("a/")]
        assert len(heads) == 11
        assert {one.label for one in heads} == {1}
        assert len({one.identity["series"] for one in heads}) == 1

    def test_a_tilted_gantry_is_a_warning_of_each_slice_and_no_refusal(self, delivered):
        root, index, labels = delivered
        table = features.features(items(index, labels), root)
        heads = table.filter(pl.col("path").str.starts_with("a/"))
        assert heads["ok"].to_list() == [1] * 11
        assert all("slice_oblique" in told for told in heads["warnings"])
        assert heads["group_id"].n_unique() == heads["study_id"].n_unique() == 1

    def test_what_is_no_head_has_its_reason(self, delivered):
        _, index, labels = delivered
        assert [one.error for one in items(index, labels) if one.path == "b/chest.dcm"] == ["not_head"]

    def test_a_patient_without_a_label_has_no_slices(self, delivered):
        _, index, labels = delivered
        assert not [one for one in items(index, labels) if one.path == "b/other.dcm"]


class TestRefusals:
    def test_a_column_that_is_not_kept(self, delivered):
        with pytest.raises(
            UsageError, match=r"'lesion' is no column of the labels; declare it under labels.keep"
        ):
            items(*delivered[1:], label_column="lesion")

    def test_nobody_with_a_label(self, delivered):
        _, index, labels = delivered
        with pytest.raises(UsageError, match="no patient has a 0 or 1"):
            items(index, labels.with_columns(pl.lit(None, dtype=pl.String).alias("brain_label")))
