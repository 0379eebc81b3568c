"""Settings of alerts: whom to tell, and when something has waited too long.

Belongs here: receivers and patience. What an alert says is in `ct_assets.reports.alerts`.
"""

from pydantic import Field

from ct_assets.settings.base import Section


class MailSettings(Section):
    """A mail server and who gets the mail (`alerts.mail:`)."""

    server: str
    port: int = Field(default=25, ge=1, le=65535)
    starttls: bool = True
    """Encrypt, and refuse to send where the server cannot."""
    user: str | None = None
    """With a password in the environment variable `CT_ASSETS_MAIL_PASSWORD`, if the server asks for one."""
    sender: str = "ct-assets@localhost"
    to: tuple[str, ...] = Field(min_length=1)


class AlertSettings(Section):
    """Whom to tell of failures, and how long things may wait (`alerts:`)."""

    webhook: str | None = None
    """A URL that takes a JSON object by POST. A secret in it is better given as `CT_ASSETS_WEBHOOK`."""
    mail: MailSettings | None = None
    stuck_minutes: float = Field(default=60, gt=0)
    """A batch that has waited in the inbox, or a run that has waited or worked, for so long is told."""
    training_hours: float = Field(default=72, gt=0)
    """The same for runs of training and evaluation, which are long by nature."""
    stale_hours: float = Field(default=6, gt=0)
    """An asset that an input has been ahead of for so long is told."""
    delivery_days: float | None = Field(default=None, gt=0)
    """Tell when no batch was registered for so long; by default nobody waits for one."""
    repeat_hours: float = Field(default=24, gt=0)
    """What still holds is told again after so long."""
    ui_url: str | None = None
    """Where people open the UI, for the link to a run: `https://ct.example.org`."""
