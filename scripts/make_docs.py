"""Write what documentation takes from the tree: `python scripts/make_docs.py`.

The picture of imports in docs/architecture.md (between its two marks) and the index of decisions. The imports
are read from the syntax trees, those inside functions included.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs/architecture.md"
DECISIONS = ROOT / "docs/decisions/README.md"
BEGIN, END = "<!-- imports: made by scripts/make_docs.py -->", "<!-- end of imports -->"
GROUND = (
    "errors",
    "files",
    "layout",
    "machine_faults",
    "parallel",
    "progress",
    "reasons",
    "settings",
    "tables",
)
"""What every room may use; one box in the picture."""
GROUND_NAME = "foundation"
TOP = ("cli", "definitions", "defs")
"""What everything else stands below; their arrows would only say so, so the picture leaves them out."""
PACKAGE = "ct_assets"
INDEX_HEAD = """# Decisions

Short notes on what someone could want to undo: the context, the choice, its consequence. The numbers go by room. Made by
`scripts/make_docs.py` from the headings.

"""


def main() -> None:
    ARCHITECTURE.write_text(architecture())
    DECISIONS.write_text(decisions())


def architecture() -> str:
    """Return the page with its picture made again."""
    text = ARCHITECTURE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{picture(room_imports())}\n{END}{after}"


def decisions() -> str:
    """Return the index: a line a decision."""
    lines = []
    for path in sorted(DECISIONS.parent.glob("0*.md")):
        heading = path.read_text().splitlines()[0].lstrip("# ")
        number = path.name[:4]
        title = heading.removeprefix(number).lstrip(": ")
        lines.append(f"- {number} [{title}]({path.name})")
    return INDEX_HEAD + "\n".join(lines) + "\n"


def room_imports() -> dict[str, set[str]]:
    """Return, for each package, the packages it imports; the foundation is one."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).parts
        room = _room(parts[0].removesuffix(".py"))
        imported = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text())):
            imported |= {_room(name) for name in _names(node)} - {room, "__init__"}
    found.pop("__init__", None)
    return {room: imported & set(found) for room, imported in found.items()}


def picture(imports: dict[str, set[str]]) -> str:
    """Return the picture as Mermaid, and beneath it all arrows in words.

    An arrow that follows from two others is left out of the picture, as are those of the top and to the ground.
    """
    drawn = {
        room: {other for other in below if other not in (*TOP, GROUND_NAME)}
        for room, below in imports.items()
        if room not in (*TOP, GROUND_NAME)
    }
    mutual = {(one, other) for one in drawn for other in drawn[one] if one < other and one in drawn[other]}
    for one, other in mutual:
        drawn[other].discard(one)
    lines = ["```mermaid", "graph TD"]
    for room in sorted(drawn):
        lines.append(f"  {room}")
        implied = {far for near in drawn[room] for far in _reach(drawn, near)}
        for other in sorted(drawn[room] - implied):
            lines.append(f"  {room} {'<-->' if (room, other) in mutual else '-->'} {other}")
    lines += ["```", "", "| package | imports |", "|---|---|"]
    for room in sorted(imports):
        told = ", ".join(f"`{one}`" for one in sorted(imports[room]))
        lines.append(f"| `{room}` | {told or '-'} |")
    return "\n".join(lines)


def _reach(drawn: dict[str, set[str]], room: str) -> set[str]:
    reached, pending = set(), [room]
    while pending:
        for other in drawn[pending.pop()]:
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return reached


def _room(name: str) -> str:
    return GROUND_NAME if name in GROUND else name


def _names(node: ast.AST) -> list[str]:
    """Return the rooms that an import statement names."""
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
        dotted = [f"{PACKAGE}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        dotted = [node.module]
    else:
        return []
    return [name.split(".")[1] for name in dotted if name.startswith(f"{PACKAGE}.")]


if __name__ == "__main__":
    main()
