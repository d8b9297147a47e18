import subprocess
import sys
from pathlib import Path

import pytest

from src.errors import InputError
from src.params import Tracking
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


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/a?b", "http://***@host:5000/a?b"),
        ("postgresql://me:s%40t@db/x", "postgresql://***@db/x"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    assert store.redact(address) == shown


def test_a_server_that_is_down_is_bad_input_without_its_password(workspace):
    with pytest.raises(InputError, match=r"http://\*\*\*@127.0.0.1:9 does not answer") as error:
        store.connect(Tracking(uri="http://me:secret@127.0.0.1:9"))
    assert "secret" not in str(error.value)


def test_a_database_that_is_broken_is_bad_input(workspace):
    (workspace / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(InputError, match=r"cannot be used: .*Check tracking.uri"):
        store.connect(Tracking())


def test_two_processes_may_make_the_store_at_once(workspace):
    code = """if True:
        from src.params import Tracking
        from src.tracking import store
        print(store.experiment(store.connect(Tracking()), Tracking()))
    """
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert {process.communicate(timeout=120)[0].strip() for process in both} == {"1"}
    assert [process.returncode for process in both] == [0, 0]
