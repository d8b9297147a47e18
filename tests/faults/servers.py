"""Real servers for tests: MLflow's tracking server, and a PostgreSQL cluster of the test's own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

HOST = "127.0.0.1"
PATIENCE = 180  # seconds for a server to come up on a busy machine: MLflow's first start makes its tables
DEBIAN = Path("/usr/lib/postgresql")  # a folder for each version; the server's programs are not on the PATH
UNPRIVILEGED = ("postgres", "nobody")  # who runs PostgreSQL when we are root, which it refuses


class Server:
    """A server process in a process group of its own, on a port that it keeps over its restarts."""

    def __init__(self, words: list[str], port: int, is_up: Callable[[], bool], log: Path, **options: Any) -> None:
        self.words, self.port, self.is_up, self.log, self.options = words, port, is_up, log, options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as printed:
            process = self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.options,
            )
        wait_until(lambda: process.poll() is not None or self.is_up(), f"the server answers, see {self.log}")
        assert process.poll() is None, f"{self.words[0]} ended:\n{self.log.read_text()}"

    def kill(self) -> None:
        """End it as a power cut would: the whole group at once, nothing tidied up."""
        self._end(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the first process to end, and end what is left of the group after a while."""
        if self.process is not None:
            self.process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it if it runs, and start it again: same store, same port."""
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        self.process.wait()
        leader, self.process = self.process.pid, None
        wait_until(lambda: not group(leader), f"the children of {self.words[0]} end")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that takes as long as the machine needs for it."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def group(leader: int) -> list[int]:
    """The processes of a group that still run. Dead ones that nobody has waited for count as ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


@contextmanager
def mlflow_server(folder: Path, backend_uri: str) -> Iterator[Server]:
    """`mlflow server` over a store, answering. Its artifacts go through it to a folder in `folder`, its log beside."""
    port = free_port()
    flags = {
        "--backend-store-uri": backend_uri,
        "--artifacts-destination": (folder / "artifacts").as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    words = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts"]
    words += [word for flag in flags.items() for word in flag]
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "mlflow-server.log"
    server = Server(words, port, lambda: _is_healthy(port), log, cwd=folder, env={**outside, **quiet})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except OSError:  # URLError is one
        return False


def why_no_postgres() -> str | None:
    """Why `postgres` cannot work on this machine and what to do about it; None when it can."""
    if _binaries() is None:
        return "PostgreSQL is not installed: Debian and Ubuntu have it with `apt install postgresql`"
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed: `make setup`, or `pip install psycopg2-binary`"
    if os.geteuid() == 0 and _user() is None:
        return f"root cannot run PostgreSQL, and has none of the users {UNPRIVILEGED} to run it as: add one"
    return None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A new, empty PostgreSQL cluster on 127.0.0.1, for as long as the block; its SQLAlchemy URI. Its log in `folder`.

    The cluster is in a temporary folder of its own: pytest's are closed to the user that root must run it as, and the
    path of a Unix socket has a hundred characters at most.
    """
    reason = why_no_postgres()
    assert reason is None, reason
    with tempfile.TemporaryDirectory(prefix="postgres-") as home:
        options = {"cwd": home, **_as_unprivileged(Path(home))}
        password = secrets.token_urlsafe()
        _make_cluster(Path(home), password, options)
        server = _postgres_server(Path(home), folder / "postgres.log", options)
        try:
            server.start()
            # MLflow's own documentation leaves the driver out; SQLAlchemy 2.1 then takes another than 2.0 did
            yield f"postgresql+psycopg2://loopline:{password}@{HOST}:{server.port}/postgres"
        finally:
            server.stop(signal.SIGINT)  # the quick way to end it: SIGTERM waits for its clients


def _make_cluster(home: Path, password: str, options: dict[str, Any]) -> None:
    """`options` are for subprocess: they say who runs it, and where."""
    secret = home / "password"
    secret.write_text(password)
    if "user" in options:
        shutil.chown(secret, options["user"], options["group"])
    words = "-D data -U loopline --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync"
    made = subprocess.run([_program("initdb"), *words.split()], capture_output=True, text=True, **options)
    assert made.returncode == 0, f"initdb failed:\n{made.stdout}{made.stderr}"
    secret.unlink()


def _postgres_server(home: Path, log: Path, options: dict[str, Any]) -> Server:
    port = free_port()
    # -F: no fsync. The cluster is gone after the test, whatever happens to the machine
    words = [_program("postgres"), "-D", str(home / "data"), "-h", HOST, "-p", str(port), "-k", str(home), "-F"]
    asked = [_program("pg_isready"), "-q", "-h", HOST, "-p", str(port)]
    return Server(words, port, lambda: subprocess.run(asked).returncode == 0, log, **options)


def _as_unprivileged(home: Path) -> dict[str, Any]:
    """Give the folder to who runs PostgreSQL; options for subprocess that make it so. Nothing when we are not root."""
    user = _user()
    if os.geteuid() != 0 or user is None:
        return {}
    shutil.chown(home, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _user() -> pwd.struct_passwd | None:
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _program(name: str) -> str:
    folder = _binaries()
    assert folder is not None
    return str(folder / name)


def _binaries() -> Path | None:
    """Where PostgreSQL's programs are: of Debian's versions the newest, else what is on the PATH."""
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    return Path(found).parent if found else None
