import json
import subprocess
import sys

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from src.doctor import study
from src.params import Params, changed
from src.tune import shared

pytestmark = pytest.mark.pipeline


def studied(path):
    """A study's trials as Optuna reads them from a journal."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name="real", storage=storage).trials


@pytest.fixture
def journal(patient):
    """The journal of a real study of ten trials, at tune.storage."""
    path = patient.path / "models/tune.journal"
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    optuna.create_study(study_name="real", storage=storage, sampler=sampler).optimize(
        lambda trial: trial.suggest_float("x", 0, 1), n_trials=10
    )
    return path


def test_a_torn_last_line_is_cut_off(patient, journal):
    before = journal.read_bytes()
    journal.write_bytes(before[:-30])
    patient.assert_mends("tuning", "torn by a crash", "models/tune.journal")
    assert journal.read_bytes() == b"".join(before.splitlines(keepends=True)[:-1])
    assert len(studied(journal)) == 10


def test_a_journal_ends_before_a_damaged_line_and_a_copy_is_kept(patient, journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    place = len(lines) // 2
    damaged = b"".join([*lines[:place], b"\0" * (len(lines[place]) - 1) + b"\n", *lines[place + 1 :]])
    journal.write_bytes(damaged)
    said = f"{journal}, line {place + 1} of {len(lines)} is damaged"
    patient.assert_mends("tuning", said, "models/tune.journal", "models/tune.journal.damaged")
    assert journal.with_name("tune.journal.damaged").read_bytes() == damaged
    trials = studied(journal)
    assert 3 <= len(trials) < 10
    assert [trial.value for trial in trials[:-1]] == [trial.params["x"] for trial in trials[:-1]]


def test_a_file_that_is_no_journal_is_left_alone(patient):
    (patient.path / "models/tune.journal").write_text("a,b\n1,2\n")
    patient.assert_only_told("tuning", "is no journal of Optuna", "set tune.storage to another file")


def test_a_journal_that_a_search_writes_is_left_alone(patient, journal):
    journal.write_bytes(journal.read_bytes()[:-30])
    code = "from src import locks; from src.tune import study\nwith locks.held(study.lock(), 'x'):"
    code += "\n    print('held', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    search = subprocess.Popen([sys.executable, "-c", code], text=True, cwd=patient.path, **pipes)
    assert search.stdout.readline() == "held\n"
    seen = patient.look("--fix", only="tuning")
    assert seen.code == 0, seen.printed
    assert f"in use by process {search.pid}" in seen.printed
    search.kill()
    search.communicate()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+nothing://me:secret@127.0.0.1:1/db",
        "postgresql://me:secret@127.0.0.1:1/db",
        "x://",
        "grpc://127.0.0.1",
        "grpc://127.0.0.1:1",
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(workspace, monkeypatch, address):
    monkeypatch.setattr(shared, "ANSWER", 0.2)
    (finding,) = study.storage(changed(Params(), {"tune.storage": address}))
    assert finding.wrong
    assert "secret" not in json.dumps([finding.said, finding.remedy])
    assert address.partition(":")[0] in finding.said


def test_a_database_that_is_there_and_one_that_is_not_yet(workspace):
    address = f"sqlite:///{workspace}/study.db"
    settings = changed(Params(), {"tune.storage": address})
    (finding,) = study.storage(settings)
    assert (finding.wrong, "no study yet" in finding.said) == (False, True)
    assert not (workspace / "study.db").exists()
    optuna.create_study(storage=address)
    (finding,) = study.storage(settings)
    assert (finding.wrong, "answers" in finding.said) == (False, True)
