"""Trainings that are lanes go on from their checkpoints, whichever of them had ended, and give what they would have."""

import math

import pytest
import torch

from src import checkpoints
from src.errors import RunError
from src.params import changed
from src.training import assemble
from src.tune import together, worker
from src.tune.alone import Alone
from src.tune.together import Together

LAST = 6


@pytest.fixture
def trainings(prepared_data, monkeypatch):
    """(params of four trainings, data); a program of them writes checkpoints after each epoch. The last diverges."""
    few = {"train.epochs": LAST, "model.name": "mlp", "model.widths": [16], "model.dropout": 0.3}
    params, data = prepared_data(
        "diabetes", "regression", **few, **{"train.schedule": "constant", "train.warmup_epochs": 0.0}
    )
    settings = [changed(params, {"train.lr": rate}) for rate in (0.001, 0.005, 0.01, 100.0)]
    settings[2:] = [changed(own, {"train.optimizer": "sgd", "train.momentum": 0.5}) for own in settings[2:]]
    monkeypatch.setattr(together, "SECONDS", 0.0)
    monkeypatch.setattr(together, "SHARE", math.inf)
    return settings, data


def program_of(trainings, folder):
    settings, data = trainings
    folders = [folder / str(lane) for lane in range(len(settings))]
    return Together(settings, [assemble(params, data) for params in settings], data, folders)


def made(program, until=math.inf, drop=None, notes=True):
    """{lane: what it gave}; until: the epoch in which its process dies; drop: {lane: the last epoch that it is wanted
    for}."""
    found, best, drop = {}, {}, drop or {}
    for given in program.fit(LAST):
        for lane, what in given.items():
            found.setdefault(lane, []).append(what)
            if not isinstance(what, RunError) and what.val["loss"] < best.get(lane, math.inf):
                best[lane] = what.val["loss"]
                if notes:
                    program.note_best(lane)
        if all(len(found[lane]) >= until for lane in given):
            break
        program.drop([lane for lane in found if len(found[lane]) == drop.get(lane, LAST)])
    return found


def values(found):
    """What can be compared of it."""
    return {
        lane: [str(what) if isinstance(what, RunError) else (what.number, what.val) for what in told]
        for lane, told in found.items()
    }


def speeds(found, lane, last):
    """Of its first epochs: those that are made again have others."""
    return [what.samples_per_second for what in found[lane][:last]]


def epochs_in(folder):
    return [state["epoch"] for state in map(checkpoints.read, checkpoints.found(folder))]


@pytest.mark.parametrize("drop", [{}, {1: 2}, {0: 2}, {1: 2, 2: 3}, {0: 5}], ids=str)
def test_a_program_that_died_goes_on_as_if_it_had_not(trainings, tmp_path, drop):
    program = program_of(trainings, tmp_path / "whole")
    whole, best = values(made(program, drop=drop)), [program.best_weights(lane) for lane in (0, 1, 2)]
    assert "the loss is inf in epoch 1" in whole[3][-1]
    died = made(program_of(trainings, tmp_path), until=5, drop=drop)
    assert {epochs_in(tmp_path / str(lane))[-1] for lane in (0, 1, 2) if lane not in drop} == {4}  # not the fifth
    program = program_of(trainings, tmp_path)
    found = made(program, drop=drop)
    assert values(found) == whole  # to the bit, dropout and all
    for lane in (0, 1, 2):
        last = min(4, drop.get(lane, 4))
        assert speeds(found, lane, last) == speeds(died, lane, last)
        own = program.best_weights(lane)
        assert all(torch.equal(value, own[name]) for name, value in best[lane].items())


def test_what_was_dropped_and_is_wanted_now_is_made_anew(trainings, tmp_path):
    made(program_of(trainings, tmp_path), until=5, drop={0: 3, 1: 2})
    program = program_of(trainings, tmp_path)
    found = values(made(program, drop={0: 3}))
    assert [number for number, _ in found[1]] == list(range(1, LAST + 1))
    settings, data = trainings
    alone = [told[0] for told in Alone(settings[1], data).fit(LAST)]
    assert found[1][2:] == [(epoch.number, epoch.val) for epoch in alone[2:]]
    weights = program.best_weights(1)
    assert weights.keys() == program.best_weights(0).keys()


@pytest.mark.parametrize("ending", ["", ".sha256"])
def test_all_go_back_to_the_checkpoint_before_one_that_is_damaged(trainings, tmp_path, ending):
    whole = values(made(program_of(trainings, tmp_path / "whole")))
    died = made(program_of(trainings, tmp_path), until=5)
    path = checkpoints.path_of(tmp_path / "1", 4)
    path.with_name(path.name + ending).write_bytes(b"damaged")
    found = made(program_of(trainings, tmp_path))
    assert values(found) == whole
    assert speeds(found, 0, 3) == speeds(died, 0, 3)
    assert speeds(found, 0, 4) != speeds(died, 0, 4)


def test_checkpoints_without_the_best_weights_that_are_wanted_now_are_not_gone_on_from(trainings, tmp_path):
    settings, data = trainings
    whole = values(made(program_of(trainings, tmp_path / "whole")))
    made(program_of(trainings, tmp_path), until=5, notes=False)
    keeping = [changed(own, {"tune.keep": 1}) for own in settings]
    program = program_of((keeping, data), tmp_path)
    assert not checkpoints.found(tmp_path / "0")
    assert values(made(program)) == whole
    assert program.best_weights(0)


def test_trainings_with_and_without_checkpoints_are_programs_of_their_own(trainings, tmp_path):
    settings, data = trainings
    died = made(program_of(trainings, tmp_path), until=5)
    folders = [tmp_path / str(lane) for lane in (0, 4, 2)]
    found = list(worker.programs([settings[0], settings[1], settings[2]], data, folders))
    assert [places for places, _ in found] == [[0, 2], [1]]
    told = next(found[0][1].fit(LAST))
    assert {lane: epoch.samples_per_second for lane, epoch in told.items()} == {
        place: died[lane][0].samples_per_second for place, lane in enumerate((0, 2))
    }
    assert isinstance(found[1][1], Alone)


def test_one_that_is_left_of_lanes_goes_on_from_its_own(trainings, tmp_path):
    settings, data = trainings
    died = made(program_of(trainings, tmp_path), until=5)
    ((_, program),) = worker.programs([settings[1]], data, [tmp_path / "1"])
    found = made(program)
    assert speeds(found, 0, 4) == speeds(died, 1, 4)
    assert len(found[0]) == LAST


def test_a_checkpoint_that_cannot_be_written_is_no_matter_of_one_training(trainings, tmp_path):
    (tmp_path / "2").write_text("a file in place of a folder")
    with pytest.raises(RunError, match="the checkpoint of a trial could not be written"):
        made(program_of(trainings, tmp_path))
