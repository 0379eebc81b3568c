"""What a declared table says of its columns, read from the declaration: the comment or docstring beside each column.

Belongs here: reading the source of a schema. `docs/tables.md` shows the same texts (`scripts/make_tables_page.py`).
"""

import ast
import inspect
import textwrap
from functools import cache


@cache
def column_descriptions(schema: type) -> dict[str, str]:
    """Return column name to description; a column that nothing stands beside is left out."""
    source = textwrap.dedent(inspect.getsource(schema))
    lines = source.splitlines()
    (node,) = ast.parse(source).body
    described: dict[str, str] = {}
    body = node.body if isinstance(node, ast.ClassDef) else []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)):
            continue
        text = _docstring(following) or _comment(lines[(statement.end_lineno or statement.lineno) - 1])
        if text:
            described[_name(statement, statement.value)] = text
    return described


def _name(statement: ast.Assign, call: ast.Call) -> str:
    alias = next((keyword.value for keyword in call.keywords if keyword.arg == "alias"), None)
    return str(ast.literal_eval(alias)) if alias is not None else ast.unparse(statement.targets[0])


def _docstring(following: ast.stmt | None) -> str:
    is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    return " ".join(str(following.value.value).split()) if is_text else ""  # type: ignore[union-attr]


def _comment(line: str) -> str:
    return line.rpartition("  # ")[2].strip() if "  # " in line else ""
