"""Settings of the HTTP API (`serving:`): models, limits, retention, alert thresholds, where webhooks may go."""

from pydantic import Field

from ct_assets.settings.base import Section


class Thresholds(Section):
    """Percentages at which a machine's alert is raised (`serving.thresholds:`)."""

    cpu: tuple[float, float] = (90.0, 95.0)
    """Warning and critical."""
    memory: tuple[float, float] = (80.0, 90.0)
    disk: tuple[float, float] = (85.0, 95.0)
    gpu: tuple[float, float] = (90.0, 100.0)
    samples: int = Field(default=2, ge=1)
    """Samples in a row above a threshold before the alert is raised."""
    cool_down_minutes: float = Field(default=5.0, ge=0)
    """After an alert is resolved, it is not raised again for so long."""


class ServingSettings(Section):
    """The HTTP API of `ct-assets serve` (`serving:`)."""

    port: int = Field(default=3310, ge=1024, le=65535)
    models: dict[str, str] = {}
    """Models that requests may name: a bundle's folder relative to the data root, or `models:/lung@champion`."""
    max_upload_mb: int = Field(default=2048, ge=1)
    """Bytes of one request's body."""
    max_unpacked_mb: int = Field(default=8192, ge=1)
    """Bytes of one request's files, unpacked."""
    max_files: int = Field(default=20_000, ge=1)
    max_ratio: float = Field(default=200.0, ge=1)
    """Unpacked bytes by packed bytes of a zip archive; more is refused as a zip bomb."""
    max_queued: int = Field(default=2000, ge=1)
    """Accepted requests that wait; further ones are answered 429."""
    attempts: int = Field(default=2, ge=1)
    """How often a request is begun whose worker was lost; then it fails by name."""
    keep_input_hours: float = Field(default=24.0, ge=0)
    """The received files go so long after the request has ended."""
    keep_results_hours: float = Field(default=168.0, ge=0)
    """Results and the request's row go so long after it has ended."""
    min_free_gb: float = Field(default=1.0, ge=0)
    """Uploads are refused (507) where less would be left on the disk."""
    dagster_url: str = "http://127.0.0.1:3301/operate"
    """Webserver that takes launches: `ct-assets service operate`."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may reach although their address is private or loopback."""
    webhook_attempts: int = Field(default=6, ge=1)
    thresholds: Thresholds = Thresholds()
