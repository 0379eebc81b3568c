"""`ct-assets serve`: the server process.

Belongs here: listening, and ending within seconds although streams are open.
"""

import asyncio
import signal
from types import FrameType

import uvicorn

from ct_assets import progress
from ct_assets.serving.app import create_app
from ct_assets.serving.platform import Runs, Serving
from ct_assets.settings import Settings

SECONDS_TO_END = 3
"""Requests under way get so long after SIGTERM; streams end at once."""


class Server(uvicorn.Server):
    """uvicorn, which tells open streams that it ends."""

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self.serving = serving

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end: streams see it at their next look."""
        self.serving.stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings, *, host: str, port: int, runs: Runs | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    serving = Serving.open(settings, runs)
    config = uvicorn.Config(
        create_app(serving),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
        ws_max_size=65536,
    )
    server = Server(config, serving)
    progress.say(f"serving on http://{host}:{port} (stop with Ctrl-C)")
    signal.signal(signal.SIGTERM, server.handle_exit)
    asyncio.run(server.serve())
