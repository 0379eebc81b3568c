"""The command blocks of a page, and running them in order as one shell session.

The convention: a fenced block whose info string begins `bash` is run by the tests. Commands that cannot be
run there say so in the info string (`bash not run: needs root`); nothing of it shows on the rendered page.
Other fences (```yaml, ```sql, ```text) hold no commands.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ct_assets_tests.docs.sandbox import Sandbox

FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"bash not run: (.+)")
COMMAND = re.compile(
    r"^\s*(?:\$ |sudo )?(?:\.venv/bin/)?"
    r"(?:ct-assets|make|git|python3?|docker|systemctl|apt-get|curl|export|mlflow|dg|helm|kubectl|ray|psql) ?\S*",
    re.MULTILINE,
)
"""What tells a block of commands from a block of something else."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    info: str
    text: str

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.info == "bash"

    @property
    def not_run(self) -> str | None:
        """Why it is not run."""
        found = NOT_RUN.fullmatch(self.info)
        return found[1] if found else None

    @property
    def has_commands(self) -> bool:
        """Whether it looks like commands, whatever its info string says."""
        return self.info.startswith(("bash", "sh", "console")) or (
            not self.info and COMMAND.match(self.text) is not None
        )


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text()
    return [
        Block(page.name, text[: found.start()].count("\n") + 1, found[2].strip(), found[3])
        for found in FENCE.finditer(text)
    ]


def run_page(page: Path, sandbox: Sandbox, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run the blocks of a page as one session of bash that ends at the first command that fails."""
    parts = ["set -euo pipefail"]
    for block in blocks_of(page):
        if block.is_run:
            parts += [f"echo '== {block.page}, line {block.line}'", block.text]
    return sandbox.run(["bash", "-c", "\n".join(parts)], timeout_s)
