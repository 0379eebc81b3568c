"""Sending alerts: a webhook by POST of JSON, and e-mail.

Belongs here: the two ways out. What is said is in `reports.alerts`. A receiver that is away is an answer, not
an error: the alerts stay unsent and are sent with the next look.
"""

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage

from ct_assets.reports.alerts import Alert
from ct_assets.settings.alerts import AlertSettings, MailSettings

TIMEOUT_S = 15
SUBJECT_LENGTH = 120


def receivers(
    settings: AlertSettings, environ: Mapping[str, str] = os.environ
) -> dict[str, Callable[[Sequence[Alert]], None]]:
    """Return how each receiver of the settings is told; the functions raise `OSError` where it is away."""
    found: dict[str, Callable[[Sequence[Alert]], None]] = {}
    url = environ.get("CT_ASSETS_WEBHOOK") or settings.webhook
    if url:
        found["webhook"] = lambda alerts: post(url, alerts, settings.ui_url)
    mail = settings.mail
    if mail is not None:
        password = environ.get("CT_ASSETS_MAIL_PASSWORD")
        found["mail"] = lambda alerts: send_mail(mail, alerts, settings.ui_url, password)
    return found


def post(url: str, alerts: Sequence[Alert], ui_url: str | None) -> None:
    """POST `{"text", "alerts"}` to a webhook; `text` is what chat services show. Raises `OSError`."""
    text = "\n".join(alert.text(ui_url) for alert in alerts)
    body = {"text": text, "alerts": [alert.facts(ui_url) for alert in alerts]}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with _opener().open(request, timeout=TIMEOUT_S):
        pass


def send_mail(mail: MailSettings, alerts: Sequence[Alert], ui_url: str | None, password: str | None) -> None:
    """Send one mail with all alerts. Raises `OSError`, also where the server cannot encrypt and should."""
    message = EmailMessage()
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    message["Subject"] = f"ct-assets: {alerts[0].kind}: {alerts[0].where}{more}"[:SUBJECT_LENGTH]
    message.set_content("\n\n".join(alert.text(ui_url) for alert in alerts) + "\n")
    with smtplib.SMTP(mail.server, mail.port, timeout=TIMEOUT_S) as server:
        if mail.starttls:
            server.starttls(context=ssl.create_default_context())
        if mail.user is not None and password is not None:
            server.login(mail.user, password)
        server.send_message(message)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes where the settings say, and nowhere that an answer names."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        """Follow none."""
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)
