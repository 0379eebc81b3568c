"""Architecture rules, checked on the syntax trees of all modules."""

import ast
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "ct_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "errors": 0, "layout": 0, "files": 0, "paths": 0, "machine_faults": 0, "progress": 0,
    "parallel": 0, "settings": 0, "registry": 0, "tables": 0, "reasons": 0,
    "dicom": 1, "storage": 1, "identity": 1,
    "imaging": 2, "deid": 2, "intake": 2,
    "cohort": 3,
    "learning": 4, "phantom": 4,
    "reports": 4, "lifecycle": 5,
    "systems": 6, "neuro": 7, "serving": 6, "defs": 6, "definitions": 7, "cli": 7,
}  # fmt: skip
"""A module imports from its own layer or from below, never from above."""

HEAVY = {
    "torch",
    "monai",
    "lightning",
    "mlflow",
    "highdicom",
    "SimpleITK",
    "matplotlib",
    "sklearn",
    "scipy",
    "cv2",
    "fastapi",
}


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def package(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "ct_assets" and len(parts) > 1 else None


def test_every_module_begins_with_what_belongs_in_it():
    assert not [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]


def test_dagster_is_imported_only_in_its_layer():
    outside = [
        path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in ("defs", "definitions.py")
    ]
    assert not [
        str(path)
        for path in outside
        if "dagster" in {name.partition(".")[0] for name in imported_modules(path)}
    ]


def test_imports_go_to_the_same_layer_or_below():
    upward = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        others = {package(name) for name in imported_modules(path)} - {None, "__version__"}
        upward += [(str(path), other) for other in others if LAYERS[other] > LAYERS[own]]
    assert not upward


def test_every_module_is_short_enough_for_one_concept():
    assert not [str(path) for path in MODULES if len(path.read_text().splitlines()) > 600]


def run_python(script: str) -> str:
    return subprocess.check_output([sys.executable, "-c", script], text=True, env={**os.environ}).strip()


def test_loading_the_definitions_imports_no_heavy_library():
    script = f"import sys, ct_assets.definitions; print(sorted({HEAVY!r} & {{*sys.modules}}))"
    assert run_python(script) == "[]"


def test_the_command_line_starts_without_heavy_libraries_or_dagster():
    script = f"import sys, ct_assets.cli; print(sorted({HEAVY | {'dagster'}!r} & {{*sys.modules}}))"
    assert run_python(script) == "[]"


def test_every_reason_code_is_registered_with_a_meaning_and_a_mend():
    from ct_assets.reasons import all_reasons

    for reason in all_reasons():
        assert reason.code == reason.code.lower()
        assert reason.meaning.endswith(".")
        assert reason.mend.endswith("."), reason.code
