import base64
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from src.errors import InputError
from src.sections import Tracking
from src.tracking import store

ROOT = Path(__file__).parents[2]


def test_the_address_is_that_of_the_params_then_of_the_environment_then_the_roots_own(workspace, monkeypatch):
    assert store.uri(Tracking()) == f"sqlite:///{workspace}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert store.uri(Tracking()) == "http://127.0.0.1:1"
    assert store.uri(Tracking(uri="sqlite:///other.db")) == f"sqlite:///{workspace}/other.db"
    assert store.uri(Tracking(uri="sqlite:////abs/other.db")) == "sqlite:////abs/other.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_refused_with_what_to_use(workspace, uri):
    with pytest.raises(InputError, match=r"is a folder, which MLflow no longer takes: use sqlite:///FILE.db"):
        store.uri(Tracking(uri=uri))


def test_a_process_killed_while_it_makes_the_store_leaves_none_that_is_half_made(workspace):
    code = "from src.sections import Tracking; from src.tracking import store; store.connect(Tracking())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    partial = workspace / "mlflow.db.partial/mlflow.db"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while not partial.exists() or partial.stat().st_size < 200_000:  # some of its tables
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (workspace / "mlflow.db").exists()
    assert not store.exists(Tracking())
    client = store.connect(Tracking())
    assert store.experiment(client, Tracking(experiment="x"))
    assert sorted(path.name for path in workspace.glob("mlflow.db*")) == ["mlflow.db"]
    assert store.connect(Tracking(uri="sqlite:///mlflow.db?timeout=5")).get_experiment_by_name("x")
    assert sorted(path.name for path in workspace.glob("mlflow.db*")) == ["mlflow.db"]


def test_the_folder_of_an_sqlite_store_is_made(workspace):
    assert store.connect(Tracking(uri="sqlite:///runs/all/mlflow.db")).search_experiments()
    assert [path.name for path in (workspace / "runs/all").glob("mlflow.db*")] == ["mlflow.db"]


def test_an_address_with_a_space_is_refused_and_not_shown(workspace):
    with pytest.raises(InputError, match="has a space in it: write it as %20") as error:
        store.uri(Tracking(uri="postgresql://me:pass word@db/x"))
    assert "word" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/a?b", "http://***@host:5000/a?b"),
        ("postgresql://me:s%40t@db/x", "postgresql://***@db/x"),
        ("http://me:p@ss@host", "http://***@host"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("postgresql://me:pa/ss@db/x", "postgresql://***@db/x"),
        ("postgresql://db/x?user=me&password=secret&a=1", "postgresql://db/x?user=me&password=***&a=1"),
        ("http://host:5000/a", "http://host:5000/a"),
        ("POST http://me:secret@host/x failed, ask a@b.org", "POST http://***@host/x failed, ask a@b.org"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    assert store.redact(address) == shown


@pytest.mark.parametrize("host", ["127.0.0.1:9", "127.0.0.1", "127.0.0.1:9/prefix", "127.0.0.1:port"])
def test_a_server_that_is_down_is_bad_input_without_its_password_and_at_once(workspace, host):
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"http://\*\*\*@{host} does not answer") as error:
        store.connect(Tracking(uri=f"http://me:secret@{host}"))
    assert "secret" not in str(error.value)
    assert time.monotonic() - start < 5


@pytest.fixture
def server():
    """A server that is up and keeps what it was asked: (path, user and password)."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path != "/health" and not server.is_fit:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.is_fit, server.asked = True, asked
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_user_and_password_of_the_address_reach_the_server(workspace, server):
    store.connect(Tracking(uri=f"http://me:secret@127.0.0.1:{server.server_port}"))
    paths, logins = zip(*server.asked, strict=True)
    assert paths == ("/health", "/api/2.0/mlflow/experiments/search")
    assert logins[-1] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_server_that_hangs_up_is_bad_input_without_its_password(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.is_fit = False
    with pytest.raises(InputError, match=r"cannot be used: API request to http://\*\*\*@127") as error:
        store.connect(Tracking(uri=f"http://me:secret@127.0.0.1:{server.server_port}"))
    assert "secret" not in str(error.value)


def test_a_database_that_is_broken_is_bad_input(workspace):
    (workspace / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(InputError, match=r"cannot be used: .*Check tracking.uri"):
        store.connect(Tracking())


def test_two_processes_may_make_the_store_at_once(workspace):
    code = """if True:
        from src.sections import Tracking
        from src.tracking import store
        print(store.experiment(store.connect(Tracking()), Tracking()))
    """
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert {process.communicate(timeout=120)[0].strip() for process in both} == {"1"}
    assert [process.returncode for process in both] == [0, 0]
