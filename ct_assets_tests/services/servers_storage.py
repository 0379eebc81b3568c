"""Object stores on loopback for the tests: Azurite (npm) and moto's S3 (PyPI), each in a folder of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from ct_assets_tests.services.servers import LOOPBACK, Server, answers, free_port, program, start, wait_for

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's own account and key, the same in every copy of it."""


@dataclass
class ObjectStore:
    """A running store: what a data root in it is called, and the environment that opens it."""

    url: str
    environ: dict[str, str]
    server: Server
    restart: "object"

    def files(self):
        """Return the file system, as a test looks into the store; past every cache."""
        files, root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, use_listings_cache=False)
        return files, root


@contextmanager
def azurite(folder: Path) -> Iterator[ObjectStore]:
    """Start Azurite's blob service; the data root is `az://ct-assets/lung`."""
    binary = program("azurite-blob", "/usr/local/bin")
    port = free_port()
    endpoint = f"http://{LOOPBACK}:{port}/{ACCOUNT}"
    environ = {
        "AZURE_STORAGE_CONNECTION_STRING": (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint};"
        )
    }
    arguments = [binary, "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--blobHost", LOOPBACK]
    arguments += ["--blobPort", str(port), "--location", str(folder / "azurite")]
    yield from _serve("azurite", arguments, folder, port, "az://ct-assets/lung", environ)


@contextmanager
def moto(folder: Path) -> Iterator[ObjectStore]:
    """Start moto's server; the data root is `s3://ct-assets/lung`. What it holds goes with it."""
    pytest.importorskip("moto", reason="moto[server] is not installed here")
    port = free_port()
    environ = {
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    arguments = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    yield from _serve("moto", arguments, folder, port, "s3://ct-assets/lung", environ)


STORES = {"azurite": azurite, "moto": moto}


def _serve(
    name: str, arguments: list[str], folder: Path, port: int, url: str, environ: dict[str, str]
) -> Iterator[ObjectStore]:
    before = {key: os.environ.get(key) for key in environ}

    def begin() -> Server:
        running = start(name, arguments, folder)
        wait_for(lambda: answers(port), f"{name}: {running.said()[-500:]}")
        return running

    def forget() -> None:
        # This process sees several stores under one URL: a connection that is kept leads to the one before.
        fsspec.get_filesystem_class(url.partition("://")[0]).clear_instance_cache()

    os.environ.update(environ)
    store = ObjectStore(url, environ, begin(), begin)
    try:
        files, _ = store.files()
        files.mkdir("ct-assets")
        forget()
        yield store
    finally:
        store.server.end()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
        forget()
