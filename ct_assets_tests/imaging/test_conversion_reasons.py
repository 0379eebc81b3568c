"""Every code that conversion can write is registered."""

import ast
from pathlib import Path

import ct_assets
from ct_assets import reasons

PACKAGE = Path(ct_assets.__file__).parent
MODULES = [
    *PACKAGE.glob("imaging/*.py"),
    *(PACKAGE / "dicom" / name for name in ("pixels.py", "seg.py", "rtstruct.py")),
]
RAISED = {"MaskError", "PixelError", "ConversionRefused"}


def codes_in(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if name in RAISED or (name in ("add", "append") and owner == "warnings"):
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and "_" in part.value:
                    yield part.value


def test_every_code_has_its_meaning():
    used = {code for path in MODULES for code in codes_in(path)}
    assert len(used) > 30
    for code in used:
        assert reasons.reason(code).meaning
