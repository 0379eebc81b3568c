"""One run of de-identification, for tests that hold its output against something."""

from dataclasses import dataclass
from pathlib import Path

from ct_assets.deid.batch.run import DeidSummary, deidentify
from ct_assets.identity.key import SecretKey
from ct_assets.layout import DeidPaths
from ct_assets.settings.deid import DeidProfile

KEY = SecretKey(bytes(range(7, 39)))


@dataclass(frozen=True)
class Run:
    """An input, its output and what was said about it."""

    input: Path
    output: Path
    summary: DeidSummary

    @property
    def paths(self) -> DeidPaths:
        return DeidPaths.of_command(self.output)


def run(input_dir: Path, output_dir: Path, profile: DeidProfile | None = None, *, workers: int = 1) -> Run:
    """De-identify a folder as the command does, with a fixed key."""
    profile = profile or DeidProfile()
    summary = deidentify(input_dir, DeidPaths.of_command(output_dir), profile, KEY, workers=workers)
    return Run(input_dir, output_dir, summary)
