"""What a user of `make ui` sees of the pipeline's runs, in a real browser."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.browser

# MLflow draws only those rows of a long table that are in view: each reading moves every table on by half its height,
# and from its end back to its start.
READ = """const text = document.body.innerText
for (const grid of document.querySelectorAll("[role=grid]")) {
    const end = grid.scrollTop + grid.clientHeight >= grid.scrollHeight - 1
    grid.scrollTop = end ? 0 : grid.scrollTop + grid.clientHeight / 2
}
return text"""


@contextmanager
def ui(project):
    """The server that `make ui` starts, without its check of .venv; gives the address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port {port} --workers 1"
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = project.path.parent / "ui.log"
    with log.open("w") as printed:
        server = subprocess.Popen(
            [f".venv/bin/{words.split()[0]}", *words.split()[1:]],
            cwd=project.path,
            env={**project.environment, **quiet},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own: its workers end with it
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not answers(f"{address}/health"):
            assert server.poll() is None, f"the UI ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the UI does not answer:\n{log.read_text()}"
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_the_ui_shows_two_runs_and_compares_their_metrics(new_project):
    from selenium.common import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    from docs.screenshot import browser

    project = new_project()
    for lr in (0.01, 0.0001):
        project.set(**{"prepare.source": "wine", "train.epochs": 3, "train.warmup_epochs": 1, "train.lr": lr})
        project.run("dvc", "repro")
    runs = project.runs()
    assert len(runs) == 2
    names = [run.info.run_name for run in runs]
    values = "\n".join(f"{round(run.data.metrics['test/accuracy'], 3):g}" for run in runs)  # one row, as MLflow rounds
    experiment = runs[0].info.experiment_id
    ids = ",".join(f'"{run.info.run_id}"' for run in runs)

    with ui(project) as address, browser() as chrome:

        def sees(page, *texts):
            chrome.get(f"{address}/#/{page}")
            text, missing = "", set(texts)

            def all_there(chrome):
                nonlocal text
                text = chrome.execute_script(READ)
                missing.difference_update([word for word in missing if word in text])
                return not missing

            try:
                WebDriverWait(chrome, 180).until(all_there)
            except TimeoutException:
                pytest.fail(f"{page} lacks {missing} in:\n{text}")

        sees(f"experiments/{experiment}/runs?compareRunsMode=TABLE", *names)
        sees(f'compare-runs?runs=[{ids}]&experiments=["{experiment}"]', *names, "test/accuracy", values)
