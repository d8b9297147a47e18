"""A study in a real PostgreSQL, or behind Optuna's proxy: several searches have it at once, and one of them dies."""

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from src.errors import InputError, RunError
from src.tune import shared, study
from tests.faults.servers import free_port, postgres, why_no_postgres

pytestmark = pytest.mark.pipeline
PROXY = """
import optuna, sys
optuna.storages.run_grpc_proxy_server(optuna.storages.get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def proxy(uri):
    """Optuna's gRPC proxy before a database; its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROXY, uri, str(port)])
    try:
        wait_for(lambda: is_open(port))
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def address(tmp_path):
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres(tmp_path) as uri:
        yield uri


@pytest.fixture(params=["database", "proxy"])
def either(request, tmp_path):
    if request.param == "database":
        yield request.getfixturevalue("address")
        return
    with proxy(f"sqlite:///{tmp_path}/study.db") as before:
        yield before


@pytest.fixture
def searchers(with_wine, tmp_path, address):
    """Two clones that search in the same study."""
    found = []
    for name in ("one", "other"):
        project = with_wine.copy(tmp_path / name)
        project.set(
            **{
                "prepare.source": "wine",
                "model.widths": [64],
                "train.epochs": 100,  # long enough for the one not to have made them all when the other begins
                "tune.storage": address,
                "tune.sampler": "random",
                "tune.pruner": "none",
                "tune.lanes": 2,
                "tune.trials": 24,
            }
        )
        found.append(project)
    return found


def study_of(address):
    (name,) = optuna.get_all_study_names(address)
    return optuna.load_study(study_name=name, storage=address)


def complete(address):
    """How many trials are."""
    if not optuna.get_all_study_names(address):
        return 0
    return len(study_of(address).get_trials(states=(TrialState.COMPLETE,)))


def running(address, project):
    """The numbers of the trials that a clone is making."""
    name = (project.path / "models/tune.searcher").read_text()
    trials = study_of(address).get_trials(states=(TrialState.RUNNING,))
    return [trial.number for trial in trials if trial.user_attrs.get(shared.SEARCHER) == name]


def on_disk(project):
    """The numbers of the trials in the outbox of a clone."""
    said = "".join(path.read_text(encoding="utf-8") for path in project.path.glob("models/outbox/*/*.jsonl"))
    return set(map(int, re.findall(r'"key": ?"\w+-(\d+)"', said)))


def die_within_a_trial(dying, address, project):
    """Kill a search, and return the numbers of the trials that it was making: it stands still while they are counted,
    and goes on when it is just between two, or has one on disk for MLflow whose end is not in the database yet."""
    while True:
        dying.send_signal(signal.SIGSTOP)
        time.sleep(0.2)  # for what it has sent to the database
        left, said = running(address, project), on_disk(project)
        assert said  # at least of the first that it has completed
        if left and not said & set(left):
            break
        dying.send_signal(signal.SIGCONT)
        assert dying.poll() is None
        time.sleep(0.05)
    dying.kill()
    dying.communicate()
    return left


def long_ago(address):
    """Have the last sign of life of all be older than it may be."""
    if address.startswith(shared.PROXY):
        storage = shared.storage(address)
        for each in storage.get_all_studies():
            for trial in storage.get_all_trials(each._study_id, states=(TrialState.RUNNING, TrialState.WAITING)):
                storage.set_trial_user_attr(trial._trial_id, shared.ALIVE, time.time() - shared.GRACE - 1)
        return
    with create_engine(address).begin() as connection:
        old = f"heartbeat - interval '{shared.GRACE + 1} seconds'"
        connection.execute(text(f"update trial_heartbeats set heartbeat = {old}"))


def wait_for(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.long
def test_searches_share_the_trials_and_one_goes_on_with_those_of_another_that_died(searchers, address):
    one, other = searchers
    dying = one.start("python", "-m", "src.tune")
    wait_for(lambda: complete(address))
    living = other.start("python", "-m", "src.tune")
    wait_for(
        lambda: len({trial.user_attrs.get(shared.SEARCHER) for trial in study_of(address).get_trials()} - {None}) == 2
    )
    left = die_within_a_trial(dying, address, one)
    wait_for(lambda: complete(address) == 24 - len(left))  # the other waits for those of this one
    assert living.poll() is None
    long_ago(address)
    printed, _ = living.communicate(timeout=300)
    assert living.returncode == 0, printed
    assert f"other machines make the last {len(left)} trials: waiting for them" in printed
    trials = study_of(address).get_trials()
    assert complete(address) == 24
    assert [trial.number for trial in trials if trial.state == TrialState.FAIL] == left
    again = [trial for trial in trials if trial.system_attrs.get(shared.FIRST_TRY) in left]
    assert [trial.params for trial in again] == [trials[number].params for number in left]
    assert {trial.state for trial in again} == {TrialState.COMPLETE}
    one.run("python", "-m", "src.tune")  # tells what the death left untold, and finds the study finished
    told = [run.data.tags["trial"] for project in searchers for run in project.runs() if "trial" in run.data.tags]
    assert sorted(map(int, told)) == [trial.number for trial in trials if trial.number not in left]


def test_a_trial_that_another_machine_has_taken_over_is_left_to_it(either, monkeypatch, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        (place / "models").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(here))
    study = optuna.create_study(storage=shared.storage(either))
    asked = shared.ask(study)
    asked.suggest_float("lr", 0.1, 0.2)
    asked.report(1.0, 1)
    assert [trial.number for trial in shared.own(study)] == [asked.number]
    monkeypatch.setenv("DVC_ROOT", str(there))
    shared.recover(study)
    assert (shared.own(study), shared.elsewhere(study)) == ([], 1)
    long_ago(either)
    shared.recover(study)
    again = shared.ask(study)
    assert again.suggest_float("lr", 0.1, 0.2) == asked.params["lr"]
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.RUNNING]
    assert (shared.elsewhere(study), study.get_trials()[1].intermediate_values) == (0, {})
    monkeypatch.setenv("DVC_ROOT", str(here))
    assert shared.own(study) == []


def test_a_trial_that_was_put_back_is_not_taken_for_dead_as_soon_as_it_runs(either, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir(exist_ok=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    study = optuna.create_study(storage=shared.storage(either))
    asked = shared.ask(study)
    study._storage.set_trial_state_values(asked._trial_id, TrialState.WAITING)
    long_ago(either)
    assert shared.ask(study).number == asked.number
    shared.recover(study)
    assert [trial.number for trial in shared.own(study)] == [asked.number]


def test_a_trial_that_nobody_has_signed_waits_again(either, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir(exist_ok=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    study = optuna.create_study(storage=shared.storage(either))
    study.ask()  # and its process is gone
    shared.recover(study)
    assert shared.elsewhere(study) == 1
    monkeypatch.setattr(shared, "GRACE", -1)
    shared.recover(study)
    ended = [TrialState.FAIL] if either.startswith(shared.PROXY) else []  # there it waits under a new number
    assert [trial.state for trial in study.get_trials()] == [*ended, TrialState.WAITING]


def test_a_database_that_goes_away_is_one_message_without_its_password(prepared_data, tmp_path_factory):
    if reason := why_no_postgres():
        pytest.skip(reason)
    server = ExitStack()
    uri = server.enter_context(postgres(tmp_path_factory.mktemp("log")))
    params, data = prepared_data("wine", **{"tune.storage": uri})

    def ask_in_vain():
        with server, study.opened(params, data.schema) as tuning:
            server.close()
            tuning.ask()

    with pytest.raises(RunError, match=r"the database of tune\.storage has failed") as raised:
        ask_in_vain()
    assert "\n" not in str(raised.value)
    assert uri.partition("loopline:")[2].partition("@")[0] not in str(raised.value)


def test_a_search_behind_a_proxy_and_one_that_goes_away(prepared_data, tmp_path):
    going, uri = ExitStack(), f"sqlite:///{tmp_path}/study.db"
    params, data = prepared_data("wine", **{"tune.storage": going.enter_context(proxy(uri))})

    def ask_in_vain():
        with going, study.opened(params, data.schema) as tuning:
            assert tuning.ask().number == 0
            assert [trial.number for trial in shared.own(tuning.study)] == [0]
            going.close()
            tuning.ask()

    with pytest.raises(RunError, match=r"the database of tune\.storage has failed: ") as raised:
        ask_in_vain()
    assert "\n" not in str(raised.value)
    assert [trial.state for trial in study_of(uri).trials] == [TrialState.RUNNING]


@pytest.mark.parametrize(("address", "why"), [("grpc://127.0.0.1", "host:port"), ("grpc://127.0.0.1:9", "timeout")])
def test_a_proxy_that_is_not_there_is_one_message(prepared_data, monkeypatch, address, why):
    monkeypatch.setattr(shared, "ANSWER", 0.2)
    params, data = prepared_data("wine", **{"tune.storage": address})
    said = rf"tune\.storage = '{address}' cannot be used: .*{why}"
    with pytest.raises(InputError, match=said), study.opened(params, data.schema):
        pass
