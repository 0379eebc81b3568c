"""The package as a whole: public names, lightness."""

import subprocess
import sys
from pathlib import Path

import pytest

import ct_assets.neuro
from ct_assets.errors import UsageError
from ct_assets.settings import load_settings, read_section
from ct_assets.settings.neuro import NeuroSettings, PreprocessingSettings

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "neuro.yaml"


def test_the_public_names():
    for name in (
        "load_image",
        "prepare_for_inference",
        "DatasetMetadata",
        "CacheManager",
        "ImageDataset",
        "StudyAwareBatchSampler",
        "pad",
        "pack",
        "ImageDataModule",
    ):
        assert name in ct_assets.neuro.__all__
        assert callable(getattr(ct_assets.neuro, name))
    assert set(ct_assets.neuro.__all__) == set(ct_assets.neuro._MODULE_OF)


def test_importing_the_package_its_settings_and_tables_loads_nothing_heavy():
    script = (
        "import sys, ct_assets.neuro, ct_assets.settings.neuro, ct_assets.tables.neuro;"
        "print({'torch', 'lightning', 'SimpleITK', 'scipy', 'nibabel'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


def test_the_shipped_settings_are_read_and_paths_are_beside_them():
    settings = load_settings(CONFIG, {})
    assert settings.neuro.dataset_name == "heads"
    assert settings.neuro.preprocessing == PreprocessingSettings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("preprocessing: {slice_mm: 0}", "slice_mm"),
        ("preprocessing: {mri_clip_percentiles: [99, 1]}", "ascend"),
        ("preprocessing: {slices: 4}", "unknown key"),
        ("normalisation: {mri: {mean: 0, std: 0}}", "std"),
        ("normalisation: {pet: {mean: 0, std: 1}}", "pet"),
        ("token_background: some", "token_background"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, text, told):
    (tmp_path / "neuro.yaml").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_section(tmp_path / "neuro.yaml", NeuroSettings)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    assert not hasattr(ct_assets.neuro, "Nothing")
