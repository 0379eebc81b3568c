"""`ct-assets serve`: the server process.

Belongs here: listening, and ending within seconds although streams are open.
"""

import asyncio
import signal
from pathlib import Path
from types import FrameType

import uvicorn

from ct_assets import progress
from ct_assets.serving.app import create_app
from ct_assets.serving.housekeeping import Housekeeper, PredictorProcess
from ct_assets.serving.platform import Serving
from ct_assets.serving.runs import Runs
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


def serve(settings: Settings, config_path: Path | None, *, host: str, port: int, runs: Runs | None) -> None:
    """Serve until SIGTERM or SIGINT, with the predictor process and the housekeeping beside."""
    serving = Serving.open(settings, runs)
    Housekeeper(serving).start()
    predictor = PredictorProcess(serving, config_path)
    predictor.start()
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
    predictor.join(SECONDS_TO_END)
