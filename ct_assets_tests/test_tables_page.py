"""The page of tables says what the declarations say."""

import runpy

from ct_assets.settings.load import PROJECT_ROOT


def test_the_page_is_up_to_date():
    script = runpy.run_path(str(PROJECT_ROOT / "scripts/make_tables_page.py"))
    assert script["page"]() == (PROJECT_ROOT / "docs/tables.md").read_text(), (
        "run: python scripts/make_tables_page.py"
    )
