"""Plans: the rules by hand, the file and its digest, what a person may override."""

import json

import numpy as np
import pytest

from ct_assets.errors import UsageError
from ct_assets.learning.volumes import plan_rules
from ct_assets.learning.volumes.fingerprint import Histogram, Merged
from ct_assets.learning.volumes.plan import Plan, build_plan
from ct_assets.settings.folds import PlanSettings
from ct_assets_tests.learning.volumes import cohort


def merged(spacing, shape, foreground=(0, 100), image=(-1000, 0, 0, 100)) -> Merged:
    return Merged(
        cases=len(spacing),
        spacing_mm=np.array(spacing, float),
        shape=np.array(shape),
        axes={"LPS": len(spacing)},
        image=Histogram.of(np.array(image, np.int16)),
        foreground=Histogram.of(np.array(foreground, np.int16)),
        label_ml={},
        label_parts=[],
        masks=len(spacing),
    )


class TestSpacing:
    def test_it_is_the_median_of_each_axis(self):
        many = merged([(0.7, 0.7, 1), (0.8, 0.8, 2), (0.9, 0.9, 2.5)], [(200, 512, 512)] * 3)
        assert plan_rules.target_spacing(many, PlanSettings()) == (0.8, 0.8, 2.0)

    def test_thick_slices_take_the_tenth_percentile_of_their_axis(self):
        spacing = [(0.8, 0.8, 3.0)] * 2 + [(0.8, 0.8, 5.0)] * 9
        thick = merged(spacing, [(60, 512, 512)] * 11)
        x, y, z = plan_rules.target_spacing(thick, PlanSettings())
        assert (x, y) == (0.8, 0.8)
        assert z == pytest.approx(np.percentile([3.0] * 2 + [5.0] * 9, 10))

    def test_thick_slices_never_get_finer_than_the_plane(self):
        spacing = [(1.0, 1.0, 0.5)] * 2 + [(1.0, 1.0, 5.0)] * 5
        assert plan_rules.target_spacing(merged(spacing, [(60, 512, 512)] * 7), PlanSettings())[2] == 1.0

    def test_settings_may_fix_it(self):
        fixed = PlanSettings(spacing=(1.5, 1.5, 2.0))
        assert plan_rules.target_spacing(merged([(1, 1, 1)], [(9, 9, 9)]), fixed) == (1.5, 1.5, 2.0)


class TestIntensity:
    def test_foreground_zscore_is_of_the_foreground_alone(self):
        values = list(range(101))
        scheme, warnings = plan_rules.intensity(
            merged([(1, 1, 1)], [(9, 9, 9)], foreground=values), PlanSettings()
        )
        assert (scheme.lower_hu, scheme.upper_hu) == (0.5, 99.5)
        assert scheme.subtract == 50
        assert scheme.divide == pytest.approx(np.std(values), abs=1e-6)
        assert warnings == ()

    def test_without_foreground_the_body_stands_in_and_it_is_said(self):
        scheme, warnings = plan_rules.intensity(
            merged([(1, 1, 1)], [(9, 9, 9)], foreground=(), image=[-1000] * 50 + [0, 100]), PlanSettings()
        )
        assert scheme.subtract == 50
        assert warnings == ("no_foreground_in_training",)

    def test_unit_range_takes_air_to_0_and_1000_to_1(self):
        scheme, _ = plan_rules.intensity(
            merged([(1, 1, 1)], [(9, 9, 9)]), PlanSettings(intensity="unit_range")
        )
        assert scheme.normalise(np.array([-2000, -1000, 0, 1000], np.int16)).tolist() == [0, 0, 0.5, 1]

    def test_a_window_is_named_and_its_ends_are_0_and_1(self):
        settings = PlanSettings(intensity="window", window="brain")
        scheme, _ = plan_rules.intensity(merged([(1, 1, 1)], [(9, 9, 9)]), settings)
        assert scheme.normalise(np.array([-9, 0, 40, 80, 99], np.int16)).tolist() == [0, 0, 0.5, 1, 1]

    def test_per_case_uses_the_case_s_own_figures(self):
        scheme, _ = plan_rules.intensity(
            merged([(1, 1, 1)], [(9, 9, 9)], image=range(-400, 401)), PlanSettings(intensity="per_case")
        )
        assert scheme.normalise(np.array([20], np.int16), 10.0, 5.0).tolist() == [2.0]
        with pytest.raises(ValueError, match="own mean"):
            scheme.normalise(np.array([20], np.int16))


class TestPatch:
    def test_sides_are_multiples_of_32_and_fit_the_memory(self):
        for gb in (1, 2, 4, 8, 12, 24):
            patch = plan_rules.patch_size((200, 300, 300), PlanSettings(patch_memory_gb=gb))
            assert all(side % 32 == 0 for side in patch)
            assert np.prod(patch) * plan_rules.BYTES_PER_VOXEL <= gb * 1e9
            assert max(patch) >= 64

    def test_12_gb_hold_the_patch_of_the_pre_training(self):
        assert np.prod(plan_rules.patch_size((200, 250, 250), PlanSettings())) >= 0.75 * 96**3

    def test_a_patch_is_no_larger_than_the_volumes_need(self):
        assert plan_rules.patch_size((20, 50, 60), PlanSettings()) == (32, 64, 64)

    def test_too_little_memory_is_refused(self):
        with pytest.raises(UsageError, match="smallest patch"):
            plan_rules.patch_size((200, 300, 300), PlanSettings(patch_memory_gb=0.1))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    return build_plan(cohort(folder), "0", folder, folder / "store", PlanSettings(), 1)


class TestFile:
    def test_it_comes_back_as_it_was_written(self, plan, tmp_path):
        plan.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == plan

    def test_the_promised_fields_are_there(self, plan, tmp_path):
        plan.save(tmp_path / "plan.json")
        content = json.loads((tmp_path / "plan.json").read_text())
        assert {"digest", "training_patients_digest", "target_spacing_mm", "intensity"} <= set(content)

    def test_a_file_edited_by_hand_is_refused_with_the_right_way(self, plan, tmp_path):
        plan.save(tmp_path / "plan.json")
        text = (tmp_path / "plan.json").read_text().replace('"fold": "0"', '"fold": "1"')
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(UsageError, match="inherits"):
            Plan.load(tmp_path / "plan.json")

    def test_a_small_json_inherits_overrides_and_is_recorded(self, plan, tmp_path):
        plan.save(tmp_path / "plan.json")
        mine = {"inherits": "plan.json", "patch_size": [64, 64, 64], "crop": {"margin_mm": 20}}
        (tmp_path / "mine.json").write_text(json.dumps(mine))
        changed = Plan.load(tmp_path / "mine.json")
        assert changed.patch_size == (64, 64, 64)
        assert (changed.crop.mode, changed.crop.margin_mm) == (plan.crop.mode, 20)
        assert changed.overridden == ("crop.margin_mm", "patch_size")
        assert changed.inherits == plan.digest
        assert changed.digest != plan.digest

    def test_facts_about_the_training_patients_cannot_be_overridden(self, plan):
        with pytest.raises(UsageError, match="training_patients_digest"):
            plan.overridden_by({"training_patients_digest": "0"}, "mine.json")

    def test_an_unknown_field_is_refused_by_name(self, plan):
        with pytest.raises(UsageError, match="patch_sise"):
            plan.overridden_by({"patch_sise": [1, 2, 3]}, "mine.json")

    def test_a_fold_without_training_patients_is_refused(self, tmp_path):
        manifest = cohort(tmp_path, patients=3, folds=1, tested=1)
        with pytest.raises(UsageError, match="no usable training case"):
            build_plan(manifest, "0", tmp_path, tmp_path / "store", PlanSettings(), 1)
