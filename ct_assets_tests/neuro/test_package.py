"""The package as a whole: public names, lightness."""

import subprocess
import sys

import ct_assets.neuro


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
    assert set(ct_assets.neuro.__all__) == set(ct_assets.neuro._ROOM_OF)


def test_importing_the_package_its_settings_and_tables_loads_nothing_heavy():
    script = (
        "import sys, ct_assets.neuro, ct_assets.settings.neuro, ct_assets.tables.neuro;"
        "print({'torch', 'lightning', 'SimpleITK', 'scipy', 'nibabel'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    assert not hasattr(ct_assets.neuro, "Nothing")
