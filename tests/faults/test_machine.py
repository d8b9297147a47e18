"""Whatever is done to a training, and in whatever order: the last good checkpoint and the best are there at every
instant, and the history is a part of that of a training to which nothing was done."""

import errno
import random
import shutil
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src import checkpoints, files, fingerprint, paths, saving, training
from src.data.prepare import prepare
from src.errors import InputError, RunError
from src.params import Params, changed
from src.tracking import outbox, run
from src.tracking.history import TIMINGS, History
from src.tracking.sender import Sender
from tests.faults.corruptions import damage

EPOCHS = 8
SETTINGS = {
    "prepare.source": "wine",
    "train.epochs": EPOCHS,
    "train.warmup_epochs": 1.0,
    "train.device": "cpu",
    "model.widths": [8],
    "train.batch_size": 32,
    "train.checkpoint_seconds": 1e-9,
    "train.lr": 0.02,
}
DEAD, EMPTY = "http://127.0.0.1:9", "mlflow.db"


class Training(RuleBasedStateMachine):
    """`store`: an MLflow store with its tables; `folder`: where all of it happens. Both are set by the test."""

    store: Path
    folder: Path

    @initialize()
    def begin(self):
        shutil.rmtree(self.folder / "models", ignore_errors=True)
        shutil.copy2(self.store, self.folder / EMPTY)
        self.params = changed(Params(), SETTINGS)
        self.data = training.load_data()
        self.mark = fingerprint.of(self.params, self.data.schema)
        self.place = paths.checkpoints() / self.mark.digest
        self.place.mkdir(parents=True)
        fingerprint.write(self.place, self.mark)
        self.whole = uninterrupted(self.params, self.data)
        self.running, self.had_best, self.at_least = None, 0, 0
        self.facts = run.new("machine", {}, self.params, "key") | {"history": run.place(self.place)}

    @rule(epochs=st.integers(1, 4))
    def train(self, epochs):
        """Go on: from where the generator is, or from the newest checkpoint."""
        if self.running is None:
            self.running = training.train(self.params, self.data, self.place)
        told = list(islice(self.running, epochs))
        if len(told) < epochs:
            self.running = None
        for epoch in told:
            assert History(self.place).read()[0][epoch.number - 1]["epoch"] == epoch.number
            assert epoch.record()["val/loss"] == self.whole[epoch.number - 1]["val/loss"]
        self.at_least = max([self.at_least, *(epoch.number for epoch in told)])

    @precondition(lambda self: self.running is not None)
    @rule(leave=st.sampled_from(["partial", "torn line", "nothing"]))
    def kill(self, leave):
        """The process is gone, and has left what it was just writing."""
        self.running.close()
        self.running = None
        if leave == "partial":
            (self.place / ".epoch-000099.pt.partial").write_bytes(b"half")
        elif leave == "torn line":
            with History(self.place).path.open("ab") as file:
                file.write(b'{"epoch": 99, "va')

    @precondition(lambda self: self.running is None)
    @rule(seed=st.integers(0, 999), what=st.sampled_from(["newest", "digest", "history", "mark"]))
    def corrupt(self, seed, what):
        """Damage a file, of the checkpoints only one that another can stand in for."""
        found = checkpoints.found(self.place)
        best = checkpoints.path_of(self.place, self.had_best)
        path = {
            "history": History(self.place).path,
            "mark": self.place / paths.MARK,
            "newest": found[-1] if found else Path("none"),
            "digest": checkpoints.digest_of(found[-1]) if found else Path("none"),
        }[what]
        if path.exists() and path.stat().st_size > 2 and (what in ("history", "mark") or len(found) > 1):
            if what in ("newest", "digest") and found[-1] == best:
                return
            damage(path, random.Random(seed))

    @rule()
    def full_disk(self):
        """No room for a while: the training stops, and what was there stays."""
        if self.running is None:
            self.running = training.train(self.params, self.data, self.place)

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints.os, "fsync", full)
            with suppress(RunError):
                next(self.running, None)
        self.running = None

    @precondition(lambda self: self.running is None)
    @rule(days=st.sampled_from([None, 1e-9]), gigabytes=st.sampled_from([None, 1e-9]))
    def prune(self, days, gigabytes):
        other = self.place.with_name("another")
        other.mkdir(exist_ok=True)
        files.write_sealed(other / paths.MARK, {})
        checkpoints.prune({self.place}, days, gigabytes, lambda _: None)
        assert other.exists() == (days is None and gigabytes is None)

    @rule(outage=st.booleans())
    def tell(self, outage):
        """MLflow is told, or cannot be told."""
        tracking = changed(self.params, {"tracking.uri": DEAD if outage else f"sqlite:///{EMPTY}"}).tracking
        facts = self.facts | {"tracking_uri": f"sqlite:///{self.folder / EMPTY}" if not outage else DEAD}
        with outbox.opened(facts) as box:
            box.say("status", status="FINISHED")
        sender = Sender(tracking, "key")
        if outage:
            with pytest.raises(InputError, match="does not answer"):
                sender.send()
            return
        sender.send()
        self.facts["run_id"] = sender.run_id
        records = History(self.place).read()[0]
        there = sender.connect().get_metric_history(sender.run_id, "val/loss")
        assert [(one.step, one.value) for one in there][: len(records)] == [
            (record["epoch"], record["val/loss"]) for record in records
        ]

    @invariant()
    def the_last_good_and_the_best_are_there(self):
        if not hasattr(self, "place") or self.running is not None:
            return  # its thread may be writing
        good = [state for path in checkpoints.found(self.place) if (state := good_state(path))]
        if self.at_least:
            assert good
            newest = good[-1]
            if newest["best_epoch"]:
                assert good_state(checkpoints.path_of(self.place, newest["best_epoch"]))
                self.had_best = newest["best_epoch"]
            kept = saving.records(newest)
            assert [untimed(record) for record in kept] == self.whole[: len(kept)]

    def teardown(self):
        if getattr(self, "running", None) is not None:
            self.running.close()


def good_state(path):
    try:
        return checkpoints.read(path)
    except InputError:
        return None


def untimed(record):
    return {key: value for key, value in record.items() if key not in TIMINGS}


def uninterrupted(params, data):
    """The history of a training to which nothing is done."""
    with tempfile.TemporaryDirectory() as folder:
        list(training.train(params, data, Path(folder)))
        return [untimed(record) for record in History(Path(folder)).read()[0]]


def test_any_sequence_of_faults_leaves_what_is_needed(workspace, empty_store):
    from hypothesis.stateful import run_state_machine_as_test

    prepare(changed(Params(), SETTINGS))
    Training.store, Training.folder = empty_store, workspace
    run_state_machine_as_test(
        Training,
        settings=settings(
            max_examples=12,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
