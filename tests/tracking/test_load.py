"""The load of the machine, as MLflow's own monitors read it."""

import threading
import time

import pytest

from src.tracking import machine, outbox


def read_by(watching, box):
    watching.join(30)
    assert not watching.is_alive()
    return [record["values"] for record in box.load.read()[0]]


@pytest.fixture
def box(workspace):
    made = outbox.Outbox("k")
    made.path.mkdir(parents=True)
    return made


def test_the_load_is_read_until_the_training_is_over(box, monkeypatch):
    monkeypatch.setattr(machine, "EVERY", 0.3)
    over = threading.Event()
    watching = machine.watch(box, over)
    while not (box.load.path.exists() and box.load.path.read_text().count("\n") >= 3):
        assert watching.is_alive()
        sum(range(20_000))  # a load that there is to see
        over.wait(0.001)
    over.set()
    readings = read_by(watching, box)
    assert len(readings) >= 3
    for values in readings:
        assert set(machine.OVER_TIME) < set(values)
        assert 0 <= values["system/cpu_utilization_percentage"] <= 100
        assert values["system/system_memory_usage_megabytes"] > 0
    assert max(values["system/cpu_utilization_percentage"] for values in readings) > 0


@pytest.mark.parametrize(("passed", "wanted"), [(0, 1.0), (29, 1.0), (150, 5.0), (86_400, 10.0)])
def test_what_comes_again_and_again_is_rarer_after_some_minutes(passed, wanted):
    assert machine.gap(1.0, time.monotonic() - passed) == pytest.approx(wanted, rel=0.01)


def test_a_training_that_is_over_at_once_has_what_a_moment_can_tell(box):
    over = threading.Event()
    over.set()
    (values,) = read_by(machine.watch(box, over), box)
    assert values["system/system_memory_usage_megabytes"] > 0
    assert not set(machine.OVER_TIME) & set(values)
