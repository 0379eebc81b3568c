"""The quick start runs as printed, and the checklist of the documentation names tests that exist."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "neuro.md"
TESTS = Path(__file__).parent


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_every_block_of_the_quick_start_runs_as_printed_from_top_to_bottom(tmp_path):
    # A plain script without a guard, as a reader would paste it.
    (tmp_path / "quick_start.py").write_text("\n".join(blocks()))
    done = subprocess.run(
        [sys.executable, "quick_start.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 binary" in done.stdout
    assert (tmp_path / "heads/processed/study_000/head_brain.pt").is_file()


def test_every_line_of_the_checklist_names_tests_that_exist():
    lines = re.findall(r"^- \[x\] (002-\d\d) .*?: (`.*`)$", PAGE.read_text(), flags=re.MULTILINE)
    assert [number for number, _ in lines] == [f"002-{n:02d}" for n in range(1, 41)]
    for number, named in lines:
        for name in re.findall(r"`(.*?)`", named):
            file, *path = name.split("::")
            text = (TESTS / file).read_text()
            assert all(re.search(rf"(def|class) {part}\b", text) for part in path), (number, name)
