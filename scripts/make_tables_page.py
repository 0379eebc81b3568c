"""Write docs/tables.md from the declared schemas: `python scripts/make_tables_page.py`.

The page says what the declarations say: a table's docstring, and of each column type, key, nullability and the
comment or docstring beside it.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/tables.md"
ORDER = ("intake", "deid", "audits", "cohort", "volumes", "folds", "learning")
HEAD = """# Tables

Made by `scripts/make_tables_page.py` from `ct_assets/tables/`; change the declarations, not this page. Units stand in
the names. Where a table lies: `ct_assets/layout.py`.
"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    folder = ROOT / "ct_assets/tables"
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "io"))
    ordered = [name for name in ORDER if name in names] + [name for name in names if name not in ORDER]
    parts = [HEAD]
    for name in ordered:
        text = (folder / f"{name}.py").read_text()
        tables = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        parts += [_table(node, text.splitlines()) for node in tables]
    return "\n".join(parts)


def _table(node: ast.ClassDef, lines: list[str]) -> str:
    rows = [f"## {node.name}", "", " ".join((ast.get_docstring(node) or "").split()), ""]
    rows += ["| column | type | |", "|---|---|---|"]
    for position, statement in enumerate(node.body):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            rows.append(_column(statement, _told(node.body, position, lines)))
    return "\n".join([*rows, ""])


def _column(statement: ast.Assign, told: str) -> str:
    call = statement.value
    assert isinstance(call, ast.Call)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    name = ast.literal_eval(named["alias"]) if "alias" in named else ast.unparse(statement.targets[0])
    kind = ast.unparse(call.func).removeprefix("dy.")
    inner = [ast.unparse(one).replace("dy.", "").replace("()", "") for one in call.args]
    kind += f"({', '.join(inner)})" if inner else ""
    marks = []
    if ast.unparse(named.get("primary_key", ast.Constant(False))) == "True":
        marks.append("key")
    if ast.unparse(named.get("nullable", ast.Constant(False))) == "True":
        marks.append("null allowed")
    notes = "; ".join([*marks, told] if told else marks)
    return f"| `{name}` | {kind} | {notes} |".replace("\n", " ")


def _told(body: list[ast.stmt], position: int, lines: list[str]) -> str:
    """Return the docstring under a column, or the comment beside it."""
    if position + 1 < len(body):
        following = body[position + 1]
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            return " ".join(str(following.value.value).split())
    end = body[position].end_lineno or 0
    return lines[end - 1].partition("  # ")[2].strip()


if __name__ == "__main__":
    sys.exit(main())
