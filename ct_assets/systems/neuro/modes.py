"""The mode mapping as a file: which study is CT and which MR.

Belongs here: reading it. What the modes mean is in `neuro.metadata`.
"""

from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.tables import supplied

COLUMNS = ["study_id", "mode"]


def read_modes(path: Path) -> dict[str, str]:
    """Return study to mode from a CSV with the columns `study_id, mode`, or from a JSON object.

    Modes are checked where studies are. Raises `UsageError` for a file that is missing or of another form,
    and for a study that stands there twice with two modes.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; it says of every study whether it is `ct` or `mri`")
    if path.suffix.lower() == ".json":
        try:
            content = files.read_json(path)
        except ValueError as error:
            raise UsageError(f"{path}: is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise UsageError(f"{path}: a JSON object of study to mode is expected")
        return {str(study): str(mode) for study, mode in content.items()}
    table = supplied.read(path)
    places = table.places(COLUMNS)
    if len(places) < len(COLUMNS):
        raise UsageError(f"{path}: the columns must be {', '.join(COLUMNS)}")
    modes: dict[str, str] = {}
    for row in table.rows:
        if row.is_blank:
            continue
        table.check_row(row)
        study, mode = (supplied.cleaned(row.cells[places[name]]) for name in COLUMNS)
        if not study or not mode:
            raise UsageError(f"{path}: line {row.line}: study_id or mode is empty")
        if modes.setdefault(study, mode) != mode:
            raise UsageError(f"{path}: line {row.line}: study {study!r} stands there with two modes")
    return modes
