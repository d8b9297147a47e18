"""A study in a real PostgreSQL, which several searches have at once, and of which one dies."""

import time

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from src.tune import shared
from tests.faults.servers import postgres, why_no_postgres

pytestmark = pytest.mark.pipeline


@pytest.fixture
def address(tmp_path):
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres(tmp_path) as uri:
        yield uri


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
                "train.epochs": 30,
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


@pytest.mark.long
def test_searches_share_the_trials_and_one_goes_on_with_those_of_another_that_died(searchers, address):
    one, other = searchers
    dying = one.start("python", "-m", "src.tune")
    deadline = time.monotonic() + 180
    while not optuna.get_all_study_names(address) or not study_of(address).get_trials(states=(TrialState.COMPLETE,)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    together = other.start("python", "-m", "src.tune", "--trials", "12")  # which ends with 12, whoever made them
    dying.kill()
    dying.communicate()
    printed, _ = together.communicate(timeout=300)
    assert together.returncode == 0, printed
    trials = study_of(address).get_trials()
    left = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    assert left
    assert len(left) + complete == 12
    with create_engine(address).begin() as connection:  # as if the time were over in which it may say that it lives
        connection.execute(
            text(f"update trial_heartbeats set heartbeat = heartbeat - interval '{shared.GRACE} seconds'")
        )

    other.run("python", "-m", "src.tune")
    trials = study_of(address).get_trials()
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == 24
    assert [trial.number for trial in trials if trial.state == TrialState.FAIL] == left
    again = [trial for trial in trials if trial.system_attrs.get("failed_trial") in left]
    assert [trial.params for trial in again] == [trials[number].params for number in left]
    assert {trial.state for trial in again} == {TrialState.COMPLETE}


def test_a_trial_that_another_machine_has_taken_over_is_left_to_it(address, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    study = optuna.create_study(storage=shared.storage(address))
    asked = shared.ask(study)
    assert [trial.number for trial in shared.own(study)] == [asked.number]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    assert shared.own(study) == []
    with create_engine(address).begin() as connection:
        connection.execute(
            text(f"update trial_heartbeats set heartbeat = heartbeat - interval '{shared.GRACE} seconds'")
        )
    time.sleep(1)
    shared.ask(study)
    assert [trial.state for trial in study.get_trials()][:2] == [TrialState.FAIL, TrialState.RUNNING]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert shared.own(study) == []
