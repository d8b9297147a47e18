"""Trainings that are lanes go on from their checkpoints, whichever of them had ended, and give what they would have."""

import math

import pytest
import torch

from src import checkpoints
from src.errors import RunError
from src.params import changed
from src.training import assemble
from src.tune import together
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


def made(program, until=math.inf, drop=None):
    """{lane: what it gave}; until: the epoch in which its process dies; drop: {lane: the last epoch that it is wanted
    for}."""
    found, drop = {}, drop or {}
    for given in program.fit(LAST):
        for lane, what in given.items():
            found.setdefault(lane, []).append(what)
            if not isinstance(what, RunError):
                program.note_best(lane)
        if all(len(found[lane]) >= until for lane in given):
            break
        program.drop([lane for lane, epoch in drop.items() if len(found[lane]) == epoch])
    return {
        lane: [str(what) if isinstance(what, RunError) else (what.number, what.val) for what in found[lane]]
        for lane in found
    }


def epochs_in(folder):
    return [state["epoch"] for state in map(checkpoints.read, checkpoints.found(folder))]


@pytest.mark.parametrize("drop", [{}, {1: 2}, {1: 2, 2: 3}, {0: 5}], ids=str)
def test_a_program_that_died_goes_on_as_if_it_had_not(trainings, tmp_path, drop):
    program = program_of(trainings, tmp_path / "whole")
    whole, best = made(program, drop=drop), program.best_weights(0)
    assert "the loss is inf in epoch 1" in whole[3][-1]
    made(program_of(trainings, tmp_path), until=5, drop=drop)
    assert epochs_in(tmp_path / "0") == [3, 4]  # that of the fifth epoch was not written yet
    program = program_of(trainings, tmp_path)
    assert made(program, drop=drop) == whole  # to the bit, dropout and all
    assert all(torch.equal(value, best[name]) for name, value in program.best_weights(0).items())
    assert epochs_in(tmp_path / "2")[-1] == drop.get(2, LAST)


def test_what_was_dropped_and_is_wanted_now_is_made_anew(trainings, tmp_path):
    made(program_of(trainings, tmp_path), until=5, drop={0: 3, 1: 2})
    program = program_of(trainings, tmp_path)
    found = made(program, drop={0: 3})
    assert [number for number, _ in found[1]] == list(range(1, LAST + 1))
    settings, data = trainings
    alone = [told[0] for told in Alone(settings[1], data).fit(LAST)]
    assert found[1][2:] == [(epoch.number, epoch.val) for epoch in alone[2:]]
    assert program.best_weights(1).keys() == program.best_weights(0).keys()


@pytest.mark.parametrize("ending", ["", ".sha256"])
def test_all_go_back_to_the_checkpoint_before_one_that_is_damaged(trainings, tmp_path, ending):
    whole = made(program_of(trainings, tmp_path / "whole"))
    made(program_of(trainings, tmp_path), until=5)
    path = checkpoints.path_of(tmp_path / "1", 4)
    path.with_name(path.name + ending).write_bytes(b"damaged")
    program = program_of(trainings, tmp_path)
    told = next(program.fit(LAST))
    assert told.keys() == {0, 1, 2, 3}
    assert made(program_of(trainings, tmp_path)) == whole


def test_a_checkpoint_that_cannot_be_written_is_no_matter_of_one_training(trainings, tmp_path):
    (tmp_path / "2").write_text("a file in place of a folder")
    with pytest.raises(RunError, match="the checkpoint of a trial could not be written"):
        made(program_of(trainings, tmp_path))
