"""The object store: objects by digest, generations by number, asked again where it does not answer.

Belongs here: moving bytes to and from `az://` and `s3://` over fsspec (adlfs, s3fs), retries with backoff
(tenacity), and the words when the store stays away. Does not: what the objects mean.

What makes it safe on any store: an object's name is the digest of its content and it is uploaded from a
finished local file, so that one cut short is never taken for it; a generation is created only where none of
its number exists (`If-None-Match: *`), so that of two machines one wins and the other sees it; nothing is
ever renamed; listings are never cached.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.settings.storage import StorageSettings
from ct_assets.storage.generations import Generation, read_generation
from ct_assets.storage.tree import CHUNK_BYTES

GENERATIONS_KEPT = 20
"""Older generations go when a new one is published; their objects go with `sweep`."""
_NUMBER_DIGITS = 10
_EXTRAS = {"az": "azure", "abfs": "azure", "abfss": "azure", "s3": "s3"}
_FINAL = (FileExistsError, FileNotFoundError, PermissionError)
"""What asking again does not mend."""
_NO_CREDENTIALS = frozenset(("NoCredentialsError", "ClientAuthenticationError", "CredentialUnavailableError"))

Result = TypeVar("Result")


class AlteredObjectError(Exception):
    """An object's bytes are not those of its name."""


class Store:
    """One data root in a store."""

    def __init__(self, settings: StorageSettings) -> None:
        if settings.url is None:
            raise ValueError("no store is named")
        self.url, self.settings = settings.url, settings
        self._files, self._root = _open(settings.url)

    def newest(self) -> Generation:
        """Return the newest generation; number 0 where nothing was published yet."""
        numbers = self._numbers()
        if not numbers:
            return Generation()
        content = self._try(lambda: self._files.cat_file(self._generation(numbers[-1])))
        try:
            return read_generation(content)
        except ValueError as error:
            raise UsageError(f"{self.url}: generation {numbers[-1]}: {error}") from None

    def publish(self, generation: Generation) -> bool:
        """Create a generation; False where another machine has created one of its number meanwhile."""
        content = generation.as_bytes(datetime.now(UTC).isoformat())
        path = self._generation(generation.number)
        try:
            self._try(lambda: self._files.pipe_file(path, content, mode="create"))
        except FileExistsError:
            # An answer that was lost on the way back looks the same: then the content is this one.
            return bool(self._try(lambda: self._files.cat_file(path)) == content)
        self.forget_older(GENERATIONS_KEPT)
        return True

    def forget_older(self, kept: int) -> None:
        """Remove all but the newest generations; only the newest is ever read."""
        for old in self._numbers()[:-kept]:
            self._try(lambda old=old: self._files.rm_file(self._generation(old)), missing_ok=True)  # type: ignore[misc]

    def put(self, uploads: Mapping[str, Path | bytes], label: str) -> None:
        """Upload objects by key, several at a time."""

        def one(key: str, content: Path | bytes) -> None:
            target = f"{self._root}/{key}"
            if isinstance(content, bytes):
                self._try(lambda: self._files.pipe_file(target, content))
            else:
                self._try(lambda: self._files.put_file(str(content), target))

        self._together(label, [(one, pair) for pair in uploads.items()])

    def get(self, downloads: Iterable[tuple[str, str, Path]], label: str) -> None:
        """Download objects (key, digest, file), several at a time; each is checked before it is there.

        Raises `UsageError` where an object is missing, or stays altered when it is fetched again.
        """

        def one(key: str, sha256: str, target: Path) -> None:
            # Named by the file, not by its content: equal files of one folder arrive at the same time.
            name = hashlib.sha256(os.fsencode(target.name)).hexdigest()
            partial = target.with_name(f".partial-{os.getpid()}-{name[:16]}")

            def fetch() -> None:
                self._files.get_file(f"{self._root}/{key}", str(partial))
                if _digest(partial) != sha256:
                    raise AlteredObjectError

            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._try(fetch)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

        self._together(label, [(one, wanted) for wanted in downloads])

    def read(self, key: str, sha256: str) -> bytes:
        """Return an object's content, checked."""

        def fetch() -> bytes:
            content: bytes = self._files.cat_file(f"{self._root}/{key}")
            if hashlib.sha256(content).hexdigest() != sha256:
                raise AlteredObjectError
            return content

        return self._try(fetch)

    def remove_unknown(self, known: set[str], older_than_hours: float) -> tuple[int, int]:
        """Remove objects whose keys are not `known` and that are older; return their number and bytes.

        Younger ones may belong to a machine that is just publishing.
        """
        limit = datetime.now(UTC) - timedelta(hours=older_than_hours)
        gone = size = 0
        for prefix in ("objects", "restricted/objects"):
            found = self._try(lambda prefix=prefix: self._find(f"{self._root}/{prefix}"))  # type: ignore[misc]
            for path, detail in found.items():
                key = path[len(self._root.rstrip("/")) + 1 :]
                changed = detail.get("last_modified") or detail.get("LastModified")
                is_young = older_than_hours > 0 and (changed is None or changed > limit)
                if key in known or is_young:
                    continue
                self._try(lambda path=path: self._files.rm_file(path), missing_ok=True)  # type: ignore[misc]
                gone, size = gone + 1, size + int(detail.get("size") or 0)
        return gone, size

    def _find(self, folder: str) -> dict[str, dict[str, Any]]:
        self._files.invalidate_cache()
        return dict(self._files.find(folder, detail=True))

    def _numbers(self) -> list[int]:
        def listing() -> list[str]:
            self._files.invalidate_cache()
            return [str(path) for path in self._files.ls(f"{self._root}/generations", detail=False)]

        names = [path.rpartition("/")[2] for path in self._try(listing, missing_ok=True) or []]
        return sorted(int(name[: -len(".json")]) for name in names if name[: -len(".json")].isdigit())

    def _generation(self, number: int) -> str:
        return f"{self._root}/generations/{number:0{_NUMBER_DIGITS}}.json"

    def _together(self, label: str, work: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        if not work:
            return
        with (
            progress.track(label, len(work)) as advance,
            ThreadPoolExecutor(self.settings.connections) as threads,
        ):
            started = [threads.submit(function, *arguments) for function, arguments in work]
            try:
                for one in started:
                    one.result()
                    advance(1)
            except BaseException:
                for one in started:
                    one.cancel()
                raise

    def _try(self, ask: Callable[[], Result], *, missing_ok: bool = False) -> Result:
        """Ask the store, again and ever more slowly while it does not answer.

        Raises `UsageError` naming the store and what to do when it stays away, refuses, or lacks something;
        `FileExistsError` passes. Messages hold the kind of an error alone: its text may quote a credential.
        """
        import tenacity

        started = time.monotonic()
        again = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.settings.patience_seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=15),
            retry=tenacity.retry_if_exception(_may_mend),
            before_sleep=lambda state: progress.say(
                f"{self.url}: {_kind(state)}; asked again in {state.upcoming_sleep:.0f} s"
            ),
            reraise=True,
        )
        try:
            return again(ask)
        except FileExistsError:
            raise
        except FileNotFoundError:
            if missing_ok:
                return None  # type: ignore[return-value]
            raise UsageError(
                f"{self.url}: the container or bucket, or an object that a generation names, is not there"
            ) from None
        except AlteredObjectError:
            raise UsageError(
                f"{self.url}: an object is not what its name says, also when fetched again; restore it from the "
                "store's own versions, or publish it again from a machine that has it"
            ) from None
        except Exception as error:
            if isinstance(error, PermissionError) or _needs_credentials(error):
                raise UsageError(
                    f"{self.url}: access was refused ({type(error).__name__}); credentials come from the "
                    "environment or the machine's identity, see docs/operate_storage.md"
                ) from None
            raise UsageError(
                f"{self.url}: the store does not answer ({type(error).__name__}), asked for "
                f"{time.monotonic() - started:.0f} s. Nothing is lost: what was made is in the working "
                "copy and goes up with the next command; run it again when the store is back"
            ) from None


def _open(url: str) -> tuple[Any, str]:
    """Return the file system and the root below it. Raises `UsageError` where its library is not installed."""
    scheme = url.partition("://")[0]
    try:
        import tenacity  # noqa: F401 (told here, before any work)
        from fsspec.core import url_to_fs

        files, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=False)
    except ImportError as error:
        raise UsageError(
            f"{url}: {error.name} is not installed: pip install 'ct-assets[{_EXTRAS[scheme]}]'"
        ) from None
    except ValueError as error:
        raise UsageError(f"{url}: {' '.join(str(error).split())}") from None
    return files, str(root).rstrip("/")


def _may_mend(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, _FINAL) and not _needs_credentials(error)


def _needs_credentials(error: BaseException) -> bool:
    return type(error).__name__ in _NO_CREDENTIALS


def _kind(state: Any) -> str:
    error = state.outcome.exception()
    return (
        "an object arrived altered"
        if isinstance(error, AlteredObjectError)
        else f"no answer ({type(error).__name__})"
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
