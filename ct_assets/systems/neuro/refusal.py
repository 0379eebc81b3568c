"""The one way an image is refused: an error that carries a reason code.

Belongs here: the error. The codes themselves are in `ct_assets.reasons.neuro` and its siblings.
"""

from ct_assets.errors import UsageError
from ct_assets.reasons import reason


class ImageRefusedError(UsageError):
    """An image that cannot be used; `code` is registered in `ct_assets.reasons`."""

    def __init__(self, code: str, name: str, detail: str = "") -> None:
        found = reason(code)
        said = " ".join(part for part in (found.meaning, detail, found.mend) if part)
        super().__init__(f"{name}: {code}: {said}")
        self.code = code

    def __reduce__(self) -> tuple:
        return (_restored, (type(self), self.args, self.code))


def _restored(kind: type[ImageRefusedError], args: tuple, code: str) -> ImageRefusedError:
    error = kind.__new__(kind, *args)
    error.args, error.code = args, code
    return error
