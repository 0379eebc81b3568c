"""A store on the local disk for fast tests: the real `Store` over a file system that fails when told to."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ct_assets.layout import Layout
from ct_assets.settings.storage import StorageSettings
from ct_assets.storage.copy import WorkingCopy
from ct_assets.storage.store import Store


class AwayError(OSError):
    """What a network would raise."""


class FailingFiles(LocalFileSystem):
    """A file system that does not answer for the next `away` calls, or dies when `dies_at` is reached."""

    cachable = False
    away = 0
    dies_at: int | None = None
    calls = 0

    def _answer(self) -> None:
        self.calls += 1
        if self.dies_at is not None and self.calls >= self.dies_at:
            raise KeyboardInterrupt
        if self.away > 0:
            self.away -= 1
            raise AwayError

    def put_file(self, *arguments: Any, **options: Any) -> Any:
        self._answer()
        return super().put_file(*arguments, **options)

    def pipe_file(self, *arguments: Any, **options: Any) -> Any:
        self._answer()
        return super().pipe_file(*arguments, **options)

    def get_file(self, *arguments: Any, **options: Any) -> Any:
        self._answer()
        return super().get_file(*arguments, **options)

    def cat_file(self, *arguments: Any, **options: Any) -> Any:
        self._answer()
        return super().cat_file(*arguments, **options)


class LocalStore(Store):
    def __init__(self, folder: Path, patience_seconds: float = 5) -> None:
        self.settings = StorageSettings(
            url="s3://bucket/folder", patience_seconds=patience_seconds, connections=1
        )
        self.url = "s3://bucket/folder"
        self._files, self._root = FailingFiles(auto_mkdir=True), str(folder)

    def _find(self, folder: str) -> dict[str, dict[str, Any]]:
        found = super()._find(folder)
        return {
            path: {**detail, "LastModified": datetime.fromtimestamp(detail["mtime"], UTC)}
            for path, detail in found.items()
        }

    @property
    def files(self) -> FailingFiles:
        return self._files


def machine(folder: Path, store: Path, **options: float) -> WorkingCopy:
    """A machine of its own on a common store."""
    return WorkingCopy(Layout(folder), LocalStore(store, **options))


def write(copy: WorkingCopy, name: str, content: bytes | str) -> Path:
    path = copy.layout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.new")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)
    return path


def content(copy: WorkingCopy) -> dict[str, bytes]:
    root = copy.layout.root
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".storage" not in path.parts
    }
