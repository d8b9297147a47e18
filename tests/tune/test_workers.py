"""Workers that are really killed, and searches too: no trial is lost, and none is counted twice."""

import signal
import threading
import time
from contextlib import suppress

import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from src import checkpoints
from src.errors import InputError
from src.saving import records

pytestmark = pytest.mark.pipeline

SHORT = {
    "prepare.source": "wine",
    "model.name": "linear",
    "train.epochs": 2,
    "train.warmup_epochs": 0.5,
    "tune.pruner": "none",
    "tune.sampler": "random",
}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture
def project(with_wine, tmp_path):
    project = with_wine.copy(tmp_path / "project")
    project.set(**SHORT)
    return project


def trials_of(project):
    storage = JournalStorage(JournalFileBackend(str(project.path / "models/tune.journal")))
    names = optuna.get_all_study_names(storage)  # none as long as the search has only just begun
    assert len(names) < 2
    return optuna.load_study(study_name=names[0], storage=storage).get_trials() if names else []


def workers_of(search):
    found = []
    for process in psutil.Process(search.pid).children():
        with suppress(psutil.NoSuchProcess):  # killed, or about to be another program
            found += [process] * any("src.tune.worker" in word for word in process.cmdline())
    return found


def search_with_kills(project, trials, workers, is_due):
    """Search with a worker killed whenever `is_due(killed, trials that ended)`; what it printed, and how many were."""
    project.set(**{**SHORT, "tune.trials": trials, "tune.workers": workers, "tune.lanes": 8})
    search, killed, printed = project.start("python", "-m", "src.tune"), 0, []
    reading = threading.Thread(target=lambda: printed.extend(search.stdout))  # a full pipe would hold it up
    reading.start()
    deadline = time.monotonic() + 1800
    while search.poll() is None and not (project.path / "reports/tune.json").exists():
        assert time.monotonic() < deadline
        if is_due(killed, sum(line.startswith("trial ") for line in printed)):
            for process in workers_of(search)[killed % workers :][:1]:
                process.kill()
                killed += 1
        time.sleep(0.01)
    reading.join(timeout=600)
    assert search.wait(timeout=60) == 0, printed[-20:]
    return "".join(printed), killed


def check_whole(project, trials):
    found = trials_of(project)
    assert [trial.number for trial in found] == list(range(trials))
    assert all(trial.state in ENDED for trial in found)
    told = [run.data.tags["trial"] for run in all_runs(project) if "mlflow.parentRunId" in run.data.tags]
    assert sorted(map(int, told)) == list(range(trials))


def all_runs(project):
    experiment = project.client.get_experiment_by_name(project.experiment)
    runs, token = [], None
    while True:
        page = project.client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def test_workers_that_are_killed_lose_no_trial(project):
    printed, killed = search_with_kills(project, 80, 2, lambda killed, ended: ended >= 20 * (killed + 1))
    assert killed
    assert "what it had is trained again" in printed
    check_whole(project, 80)


@pytest.mark.faults
def test_two_thousand_trials_with_a_worker_killed_every_five_seconds(project):
    begun = time.monotonic()
    _, killed = search_with_kills(project, 2000, 4, lambda killed, _: time.monotonic() > begun + 5 * (killed + 1))
    print(f"{killed} workers killed")
    check_whole(project, 2000)


@pytest.mark.long
def test_a_search_that_was_killed_makes_the_trials_of_one_that_was_not(project):
    long = {**SHORT, "train.epochs": 30, "tune.sampler": "tpe", "tune.pruner": "hyperband", "tune.lanes": 6}
    project.set(**{**long, "tune.trials": 18})

    def values():
        return [(trial.number, trial.params, trial.state, trial.value) for trial in trials_of(project)]

    project.run("python", "-m", "src.tune")
    whole = values()
    for path in project.path.glob("models/tune.*"):
        path.unlink()
    for number in (4, 14):
        search = project.start("python", "-m", "src.tune")
        deadline = time.monotonic() + 120
        while not (project.path / "models/tune.journal").exists() or len(trials_of(project)) < number:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        search.send_signal(signal.SIGKILL)
        search.communicate()
    project.run("python", "-m", "src.tune")
    assert values() == whole


@pytest.mark.long
@pytest.mark.parametrize(("lanes", "widths", "epochs"), [(1, [1280, 1280, 1280], 6), (3, [256, 256], 100)])
def test_what_takes_long_goes_on_from_its_checkpoints_whoever_was_killed(project, lanes, widths, epochs):
    long = {"model.name": "mlp", "model.widths": widths, "train.epochs": epochs, "train.checkpoint_seconds": 0.01}
    project.set(**{**SHORT, **long, "prepare.source": "digits", "tune.trials": lanes, "tune.lanes": lanes})
    project.run("dvc", "repro", "--quiet", "prepare")

    def speeds(more_than):
        """Of the first epochs of trial 0, once all trials have a checkpoint of more than so many: what begins anew has
        others."""
        deadline, found = time.monotonic() + 240, []
        while len(found) <= more_than:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            for study in project.path.glob("models/tune.checkpoints/*"):
                names = [{path.name for path in (study / str(trial)).glob("epoch-*.pt")} for trial in range(lanes)]
                for name in set.intersection(*names):
                    with suppress(InputError):  # it has just been removed
                        rows = records(checkpoints.read(study / "0" / name))
                        found = max(found, [row["samples_per_second"] for row in rows], key=len)
        return found

    search = project.start("python", "-m", "src.tune")
    first = speeds(1)
    (worker,) = workers_of(search)
    worker.kill()
    later = speeds(len(first) + 1)
    search.kill()
    search.communicate()
    project.run("python", "-m", "src.tune")
    check_whole(project, lanes)
    (trial,) = [run for run in all_runs(project) if run.data.tags.get("trial") == "0"]
    history = project.client.get_metric_history(trial.info.run_id, "samples_per_second")
    assert [metric.step for metric in history] == list(range(1, epochs + 1))
    told = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
    assert told[: len(first)] == first
    assert told[: len(later)] == later
    assert not list(project.path.glob("models/tune.checkpoints/*/*"))
