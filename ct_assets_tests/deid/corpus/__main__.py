"""`python -m ct_assets_tests.deid.corpus OUT [--seed N]`: make the corpus."""

import argparse
from pathlib import Path

from ct_assets_tests.deid.corpus.make import make

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the de-identification corpus with its answer key.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    made = make(given.out, seed=given.seed)
    print(f"{sum(1 for path in made.input.rglob('*') if path.is_file())} files in {made.input}")
