"""The processes of a search, which are really started, and killed."""

import os
import signal

from src.tune import crew


def test_how_many_lanes_are_best_is_measured_by_another_when_the_first_dies(prepared_data, monkeypatch, capfd):
    params, _ = prepared_data("wine", **{"train.warmup_epochs": 0, "tune.workers": 2})
    start, killed = crew.Worker, []

    def start_and_kill_the_first(*facts):
        worker = start(*facts)
        if not killed:
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)
        return worker

    monkeypatch.setattr(crew, "Worker", start_and_kill_the_first)
    with crew.Crew(params, 4) as begun:
        assert begun.lanes in (1, 4)
        assert begun.batch_size == params.train.batch_size
        assert killed[0] not in [worker.pid for worker in begun.workers]
    assert f"worker {killed[0]} has ended with exit code -9" in "".join(capfd.readouterr())


def test_lanes_that_are_known_are_not_measured(prepared_data):
    params, _ = prepared_data("wine", **{"train.warmup_epochs": 0})
    with crew.Crew(params, 4, lanes=3) as begun:
        assert begun.lanes == 3
