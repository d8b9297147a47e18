import numpy as np
import pytest

from src.errors import InputError
from src.tracking.history import History, Steps, points


def record(epoch):
    return {"epoch": epoch, "val/loss": 1 / 3 + epoch, "samples_per_second": 5.0}


def epochs(history):
    return [found["epoch"] for found in history.read()[0]]


def test_what_was_appended_is_read_to_the_last_bit(tmp_path):
    history = History(tmp_path)
    assert history.read() == ([], 0)
    for epoch in (1, 2):
        history.append(record(epoch))
    found, _ = history.read()
    assert [{key: value for key, value in row.items() if key != "time"} for row in found] == [record(1), record(2)]


def test_reading_goes_on_from_an_offset_and_leaves_a_torn_line(tmp_path):
    history = History(tmp_path)
    history.append(record(1))
    _, offset = history.read()
    history.append(record(2))
    with history.path.open("a") as file:
        file.write('{"epoch": 3, "val')
    found, end = history.read(offset)
    assert [row["epoch"] for row in found] == [2]
    assert history.read(end) == ([], end)


def test_restore_leaves_what_a_checkpoint_has_kept(tmp_path):
    history, said = History(tmp_path), []
    for epoch in (1, 2, 3):
        history.append(record(epoch))
    kept = history.read()[0][:2]
    with history.path.open("a") as file:
        file.write('{"epoch": 4')
    history.restore(kept, said.append)
    history.append(record(3))
    assert epochs(history) == [1, 2, 3]
    assert said == []


def test_the_table_has_no_timings(tmp_path):
    history = History(tmp_path)
    history.append(record(1))
    history.write_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == f"epoch,val/loss\n1,{1 / 3 + 1}\n"


def losses(epoch, count=5):
    return np.linspace(epoch, epoch + 1, count, dtype=np.float32)


def kept(steps):
    return {record["epoch"]: record["losses"].tolist() for record in steps.read()[0]}


def test_the_loss_of_each_step_is_read_to_the_last_bit(tmp_path):
    steps = Steps(tmp_path)
    assert steps.read() == ([], 0)
    for epoch in (1, 2):
        steps.append(epoch, losses(epoch))
    assert kept(steps) == {1: losses(1).tolist(), 2: losses(2).tolist()}
    _, offset = steps.read()
    steps.append(3, losses(3))
    assert [record["epoch"] for record in steps.read(offset)[0]] == [3]


def test_restore_leaves_the_steps_of_the_epochs_that_a_checkpoint_has(tmp_path):
    steps, said = Steps(tmp_path), []
    for epoch in (1, 2, 3):
        steps.append(epoch, losses(epoch))
    with steps.path.open("a") as file:
        file.write('{"epoch": 4')
    steps.restore(2, said.append)
    assert kept(steps) == {1: losses(1).tolist(), 2: losses(2).tolist()}
    assert said == []


def test_restore_says_what_is_gone(tmp_path):
    steps, said = Steps(tmp_path), []
    for epoch in (1, 2, 3):
        steps.append(epoch, losses(epoch))
    content = bytearray(steps.path.read_bytes())
    content[40] ^= 1
    steps.path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        steps.read()
    steps.restore(3, said.append)
    assert set(kept(steps)) == {2, 3}
    assert len(said) == 1
    assert "lacks the steps of 1 epochs" in said[0]
    assert steps.path.with_name("steps.jsonl.damaged").read_bytes() == bytes(content)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_points_are_means_of_all_steps_between_them(count):
    record = {"epoch": 3, "losses": losses(3)}
    found = points(record, count)
    assert len(found) == min(count, 5)
    assert [step for step, _ in found] == sorted({step for step, _ in found})
    assert found[-1][0] == 15
    lengths = np.diff([10] + [step for step, _ in found])
    assert sum(length * mean for length, (_, mean) in zip(lengths, found, strict=True)) == pytest.approx(17.5)


def test_no_points_are_no_points():
    assert points({"epoch": 1, "losses": losses(1)}, 0) == []
