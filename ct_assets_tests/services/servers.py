"""Servers on loopback for the service tests, each in a folder of its own and ended with its test.

Belongs here: starting and ending processes, Postgres, the platform's own processes, and asking Dagster.
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LOOPBACK = "127.0.0.1"


def program(name: str, *folders: str) -> str:
    """Return the path of a program of the system; without it the test is skipped and says so."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", *folders])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])


def wait_for(asked: Callable[[], Any], what: str, *, seconds: float = 60, every: float = 0.25) -> Any:
    """Return the first answer that is neither None nor False; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = asked()
        if answer is not None and answer is not False:
            return answer
        time.sleep(every)
    pytest.fail(f"waited {seconds:.0f} s in vain for {what}")


def answers(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


@dataclass
class Server:
    """A process with its own session and log; ended with everything it started."""

    name: str
    process: subprocess.Popen
    log: Path

    def kill(self) -> None:
        """SIGKILL this process alone; what it started lives on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self, how: int = signal.SIGTERM, seconds: float = 10) -> None:
        """End the whole session: politely, then not."""
        for signum in (how, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signum)
            except ProcessLookupError:
                break
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        self.process.poll()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def start(
    name: str,
    arguments: list[str],
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as opened:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=subprocess.STDOUT,
            env=None if environ is None else dict(environ),
            start_new_session=True,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            cwd=cwd,
        )
    return Server(name, process, log)


# Postgres


def unprivileged() -> str | None:
    """Return whom Postgres runs as: it refuses root."""
    return None if os.geteuid() else "nobody"


@contextmanager
def postgres() -> Iterator[str]:
    """Start Debian's Postgres on a free port of loopback, as a user who is not root; yield an empty database's URL.

    Its folder is none of pytest's, whose parents each new session closes to other users.
    """
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3])
    )
    if not versions:
        pytest.skip("postgres is not installed here (Debian: apt install postgresql)")
    binaries, user = versions[-1].parent, unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    data, port = folder / "data", free_port()
    data.mkdir(mode=0o700)
    if user is not None:
        who = pwd.getpwnam(user)
        os.chown(data, who.pw_uid, who.pw_gid)
        folder.chmod(0o711)
    as_user: dict[str, Any] = {} if user is None else {"user": user, "extra_groups": []}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "ct", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, **as_user, cwd="/",
    )  # fmt: skip
    arguments = [str(binaries / "postgres"), "-D", str(data), "-h", LOOPBACK, "-p", str(port)]
    arguments += ["-c", "unix_socket_directories="]
    server = start("postgres", arguments, folder, user=user, cwd=Path("/"))
    try:
        wait_for(lambda: accepts(port), "Postgres", seconds=60)
        subprocess.run(
            [binaries / "createdb", "-h", LOOPBACK, "-p", str(port), "-U", "ct", "ct_assets"],
            check=True,
            cwd="/",
        )
        yield f"postgresql+psycopg2://ct@{LOOPBACK}:{port}/ct_assets"
    finally:
        server.end(signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


def accepts(port: int) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host=LOOPBACK, port=port, user="ct", dbname="postgres", connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


# The platform's own processes


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what steers a platform."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CT_ASSETS_", "DAGSTER_", "PYTEST_"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **changes}


@dataclass
class Service:
    """The processes of one platform, as `ct-assets service` runs them."""

    config: Path
    folder: Path
    ports: dict[str, int]
    environ: dict[str, str] = field(default_factory=environment)
    running: dict[str, Server] = field(default_factory=dict)

    def start(self, role: str) -> Server:
        arguments = [sys.executable, "-c", "from ct_assets.cli import main; main()"]
        arguments += ["service", role, "--config", str(self.config)]
        if role in self.ports:
            arguments += ["--port", str(self.ports[role])]
        server = start(role, arguments, self.folder, environ=self.environ)
        self.running[role] = server
        if role in self.ports:
            wait_for(lambda: answers(self.ports[role]) or self._died(server), f"{role}", seconds=120)
        return server

    def _died(self, server: Server) -> None:
        if server.process.poll() is not None:
            pytest.fail(f"{server.name} ended: {server.said()[-2000:]}")

    def end(self) -> None:
        for server in reversed(self.running.values()):
            server.end()


@contextmanager
def service(
    config: Path, folder: Path, *roles: str, ports: Mapping[str, int] | None = None
) -> Iterator[Service]:
    """Start processes of the platform; those that listen on free ports (the code server on its configured one)."""
    chosen = {role: free_port() for role in roles if role in ("operate", "view")} | dict(ports or {})
    made = Service(config, folder, chosen)
    try:
        for role in roles:
            made.start(role)
        yield made
    finally:
        made.end()


def ask(
    url: str, query: str, variables: Mapping[str, Any] | None = None, *, seconds: float = 20
) -> dict[str, Any]:
    """Ask Dagster's GraphQL by POST; return the data."""
    body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as response:
        answer = json.load(response)
    assert not answer.get("errors"), answer["errors"]
    return answer["data"]


PID = re.compile(r"pid: (\d+)")


def worker_pid(instance: Any, run_id: str) -> int | None:
    """Return the process id that Dagster's launcher told of a run."""
    for event in instance.all_logs(run_id):
        message = event.user_message or (event.dagster_event.message if event.dagster_event else "")
        if found := PID.search(message or ""):
            return int(found[1])
    return None


# Ray

RAY_HEAD, RAY_OTHER = "127.0.0.2", "127.0.0.3"


@dataclass
class RayCluster:
    """A head and one more node on loopback; nodes are told apart by their address."""

    folder: Path
    address: str
    gcs: int
    nodes: dict[str, Server] = field(default_factory=dict)

    def add(self, host: str, cpus: int, *, head: bool = False) -> None:
        first = 20000 + 2000 * len(self.nodes)
        arguments = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        arguments += [f"--node-ip-address={host}", f"--num-cpus={cpus}", f"--object-store-memory={100 << 20}"]
        arguments += [f"--min-worker-port={first}", f"--max-worker-port={first + 1000}"]
        for agent in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"):
            arguments.append(f"--{agent}={free_port()}")
        if head:
            arguments += ["--head", f"--port={self.gcs}", f"--temp-dir={self.folder}"]
            arguments += [f"--dashboard-host={host}", f"--dashboard-port={self.address.rpartition(':')[2]}"]
        else:
            arguments += [f"--address={RAY_HEAD}:{self.gcs}"]
        patient = environment(RAY_raylet_start_wait_time_s="300")  # two busy cores are slow to begin a node
        self.nodes[host] = start(f"ray-{host}", arguments, self.folder, environ=patient)

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head believes in."""
        try:
            with urllib.request.urlopen(f"{self.address}/nodes?view=summary", timeout=5) as response:
                found = json.load(response)["data"]["summary"]
        except (OSError, ValueError):
            return set()
        return {node.get("ip") for node in found if node.get("raylet", {}).get("state") == "ALIVE"}

    def jobs(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.address}/api/jobs/", timeout=10) as response:
            return list(json.load(response))

    def host_of(self, submission: str) -> str | None:
        """Return the address of the node where a job works."""
        for job in self.jobs():
            if job["submission_id"] == submission and job["driver_agent_http_address"]:
                return str(job["driver_agent_http_address"]).partition("://")[2].rpartition(":")[0]
        return None

    def kill(self, host: str) -> None:
        """SIGKILL a node with everything on it, as a machine that loses its power."""
        import psutil

        node = self.nodes.pop(host)
        for process in [
            *psutil.Process(node.process.pid).children(recursive=True),
            psutil.Process(node.process.pid),
        ]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.process.wait()

    def end(self) -> None:
        for host in list(self.nodes):
            self.kill(host)


@contextmanager
def ray_cluster(cpus: int) -> Iterator[RayCluster]:
    """Start a cluster of two nodes; Ray takes 127.0.0.1 for "find an address of the machine", so they are others."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed here")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets allow short paths only
    cluster = RayCluster(folder, f"http://{RAY_HEAD}:{free_port()}", free_port())
    try:
        cluster.add(RAY_HEAD, cpus, head=True)
        wait_for(lambda: RAY_HEAD in cluster.alive(), "the head of the Ray cluster", seconds=240)
        cluster.add(RAY_OTHER, cpus)
        wait_for(
            lambda: len(cluster.alive()) == 2,
            f"the second node of the Ray cluster {cluster.alive()}",
            seconds=240,
        )
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
