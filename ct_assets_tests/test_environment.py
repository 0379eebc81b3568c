"""Tests see nothing of a user's environment."""

import os
import subprocess
import sys

from ct_assets_tests.conftest import USERS_VARIABLES


def test_no_variable_of_a_user_reaches_a_test():
    script = (
        "import os, ct_assets_tests.conftest as c\n"
        "print([name for name in os.environ if name.startswith(c.USERS_VARIABLES)])"
    )
    own = {name + "X_SET_BY_A_USER": "1" for name in USERS_VARIABLES} | {"CT_ASSETS_DEID_KEY": "0" * 64}
    told = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
