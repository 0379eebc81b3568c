"""The settings that a command names decide the partitions of its graph, whatever the default file says."""

import subprocess
import sys

import yaml

SCRIPT = """
import sys
from ct_assets.cli.root import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
from ct_assets.defs.engine import partitions
print(",".join(partitions.folds.get_partition_keys()), ",".join(partitions.derived_sets.get_partition_keys()))
"""


def test_folds_and_smaller_sets_are_those_of_the_named_file(tmp_path):
    path = tmp_path / "settings.yaml"
    content = {
        "data_root": "data",
        "splits": {"folds": 7},
        "derived": {"home": {"patients": 4, "max_mb": 10}},
    }
    path.write_text(yaml.safe_dump(content))
    (tmp_path / "train").mkdir()
    (tmp_path / "train/cpu.yaml").write_text("experiment: e\n")
    command = [sys.executable, "-c", SCRIPT, "train", "--status", "--config", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "0,1,2,3,4,5,6 home"
