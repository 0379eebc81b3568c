"""Settings of the DICOM network receiver (`receive:`)."""

import ipaddress
from pathlib import Path

from pydantic import Field, field_validator

from ct_assets.settings.base import Section


class TlsSettings(Section):
    """Encryption, and who may connect (`receive.tls:`; PS3.15 B.12, BCP 195 profile)."""

    certificate: Path
    """This receiver's certificate chain, PEM."""
    private_key: Path
    """Its private key, PEM."""
    client_ca: Path
    """The authority, PEM, whose signature every sender's certificate must bear."""


class ReceiveSettings(Section):
    """What the receiver listens on and takes."""

    ae_title: str = Field(default="CT_ASSETS", min_length=1, max_length=16)
    """The called AE title; an association that calls another is rejected."""
    senders: tuple[str, ...] = ()
    """Calling AE titles that may send; the receiver does not start without one."""
    host: str = "127.0.0.1"
    """The address to listen on; one beyond this machine must be said again with `--public`."""
    port: int = Field(default=11112, ge=1, le=65535)
    tls: TlsSettings | None = None
    """Without it connections are plain, as most modalities send them."""
    quiet_seconds: float = Field(default=60, ge=0)
    """A study is whole when every association that sent into it was released and nothing came for so long."""
    report_seconds: float = Field(default=3600, ge=0)
    """So long a series that broke off waits to be sent again, before it is reported and the rest delivered."""
    keep_free_mb: int = Field(default=2000, ge=0)
    """Objects are refused (out of resources) before the disk has less than this free."""
    associations: int = Field(default=20, ge=1, le=200)
    """So many senders at a time; further ones are rejected until one has ended."""
    silence_seconds: int = Field(default=300, ge=1)
    """An association on which nothing moves for so long is aborted."""

    @field_validator("ae_title")
    @classmethod
    def _ae_title_is_one(cls, title: str) -> str:
        return check_ae_title(title)

    @field_validator("senders")
    @classmethod
    def _senders_are_ae_titles(cls, titles: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_ae_title(title) for title in titles)

    def resolved_against(self, folder: Path) -> "ReceiveSettings":
        """Return the settings with relative paths made absolute against `folder`."""
        if self.tls is None:
            return self
        paths = {name: (folder / path).resolve() for name, path in self.tls}
        return self.model_copy(update={"tls": self.tls.model_copy(update=paths)})

    @property
    def is_public(self) -> bool:
        """Tell whether others than this machine can reach the address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def check_ae_title(title: str) -> str:
    """Return `title` if it is an AE title (PS3.5 6.2: 1 to 16 characters, no backslash or control), stripped."""
    stripped = title.strip(" ")
    if (
        not 1 <= len(stripped) <= 16
        or "\\" in stripped
        or not (stripped.isascii() and stripped.isprintable())
    ):
        raise ValueError("an AE title has 1 to 16 printable characters and no backslash")
    return stripped
