"""The rules that keep the house habitable, held by walking its code."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ct_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "errors": 0, "layout": 0, "files": 0, "machine_faults": 0, "progress": 0,
    "parallel": 0, "settings": 0, "tables": 0, "reasons": 0,
    "dicom": 1, "storage": 1,
    "imaging": 2, "deid": 2, "intake": 2,
    "cohort": 3,
    "learning": 4, "phantom": 4,
    "reports": 4, "neuro": 5, "brain": 5, "keeping": 5, "service": 5,
    "systems": 6, "defs": 6, "definitions": 7, "cli_keeping": 7, "cli": 7,
}  # fmt: skip
"""A module imports from its own floor or from below, never from above."""

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
}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "ct_assets" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
class TestEveryModule:
    def test_says_what_belongs_in_it(self, path):
        assert ast.get_docstring(ast.parse(path.read_text())), "a module begins with what belongs in it"

    def test_imports_dagster_only_in_the_dagster_layer(self, path):
        in_layer = path.relative_to(PACKAGE).parts[0] in ("defs", "definitions.py")
        assert in_layer or "dagster" not in {name.partition(".")[0] for name in imported_modules(path)}

    def test_imports_from_its_own_floor_or_below(self, path):
        own = room("ct_assets." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
        if own == "__init__":
            return
        rooms = {room(name) for name in imported_modules(path)} - {None, "__version__"}
        above = {other for other in rooms if FLOORS[other] > FLOORS[own]}
        assert not above, f"{own} must not import from {above}"

    def test_is_short_enough_to_hold_one_concept(self, path):
        assert len(path.read_text().splitlines()) <= 600


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
