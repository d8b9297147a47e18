import hashlib
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from src import checkpoints, fingerprint, metrics, training
from src.data.prepare import prepare
from src.errors import InputError, RunError
from src.loop import evaluate, fit
from src.params import Params, changed
from src.tracking.history import TIMINGS, History, Steps

TASKS = [
    ("digits", "classification"),
    ("wine", "classification"),
    ("breast_cancer", "binary"),
    ("diabetes", "regression"),
    ("diabetes", "robust_regression"),
]
AUGMENTED = {"train.augment.crop": 1, "train.augment.rotate": 10.0, "train.augment.erase": 0.3}


def untimed(epochs):
    return [replace(epoch, samples_per_second=0.0) for epoch in epochs]


def flat(value):
    """A nested state as bytes, so that two can be compared to the bit."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items() if key not in (*TIMINGS, "history")}
    return [flat(item) for item in value] if isinstance(value, list | tuple) else value


def last_state(folder):
    return flat(checkpoints.newest(folder, print))


@pytest.mark.parametrize(("source", "task"), TASKS)
def test_each_task_learns_more_than_a_constant_could(prepared_data, source, task):
    params, data = prepared_data(source, task, **{"train.epochs": 15})
    best = max(untimed(training.train(params, data)), key=lambda epoch: -epoch.val["loss"])
    if task.endswith("regression"):
        assert best.val["r2"] > 0.25
    else:
        majority = data.val.targets.long().bincount().max().item() / len(data.val.targets)
        assert best.val["accuracy"] > majority + 0.25
    assert set(best.val) == set(metrics.of_task(task))


def test_equal_params_give_equal_epochs_and_another_seed_others(prepared_data):
    params, data = prepared_data("digits", **{"train.epochs": 3})
    first, second = (untimed(training.train(params, data)) for _ in range(2))
    assert first == second
    assert untimed(training.train(changed(params, {"seed": 1}), data)) != first


@pytest.mark.parametrize(
    ("source", "task", "changes"),
    [
        ("digits", "classification", {"train.optimizer": "adamw"}),
        ("digits", "classification", {"train.optimizer": "sgd", "train.lr": 0.05, "train.schedule": "one_cycle"}),
        ("digits", "classification", {"model.name": "cnn", "model.channels": [4], "train.optimizer": "adam"}),
        (
            "digits",
            "classification",
            {"model.name": "cnn", "model.channels": [4], "train.sampler": "balanced", **AUGMENTED},
        ),
        ("diabetes", "regression", {"train.patience": 3, "train.schedule": "step"}),
    ],
)
@pytest.mark.parametrize("stop_after", [1, 4])
def test_interrupt_and_resume_equals_the_uninterrupted_training(
    prepared_data, workspace, source, task, changes, stop_after
):
    params, data = prepared_data(source, task, **{"train.epochs": 6, "model.dropout": 0.3, **changes})
    whole, parts = workspace / "whole", workspace / "parts"
    whole.mkdir()
    parts.mkdir()
    uninterrupted = untimed(training.train(params, data, whole))

    first = []
    for epoch in training.train(params, data, parts):
        first.append(epoch)
        if epoch.number == stop_after:
            break
    torch.manual_seed(12345)  # what happens between must not matter
    second = untimed(training.train(params, data, parts))

    assert untimed(first) + second == uninterrupted
    assert last_state(parts) == last_state(whole)
    assert flat(History(parts).read()[0]) == flat(History(whole).read()[0])
    assert flat(training.best_state(parts)["model"]) == flat(training.best_state(whole)["model"])
    assert list(training.train(params, data, parts)) == []  # complete: nothing more to do


@pytest.mark.parametrize("source", ["digits", "breast_cancer"])
def test_data_that_is_read_in_chunks_trains_the_same(prepared_data, source):
    params, data = prepared_data(source, "binary" if source == "breast_cancer" else "classification")
    values = {"train.epochs": 3, "train.batch_size": 48}
    resident, streamed = (
        untimed(training.train(changed(params, {**values, "train.resident_gb": limit}), data)) for limit in (None, 0.0)
    )
    assert streamed == resident


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("digits", {"train.optimizer": "adamw", "train.clip_norm": 1.0}),
        ("digits", {"model.name": "cnn", "model.channels": [4], "train.sampler": "balanced", **AUGMENTED}),
        ("wine", {"train.optimizer": "sgd", "train.schedule": "one_cycle", "train.patience": 1}),
        ("wine", {"train.resident_gb": 0.0}),
    ],
)
@pytest.mark.parametrize("ending", ["SIGINT", "SIGKILL"])
def test_a_training_that_ends_within_an_epoch_goes_on_from_that_step(
    prepared_data, workspace, monkeypatch, capsys, source, changes, ending
):
    """SIGINT: the checkpoint is of that moment. SIGKILL, here an exception that saves nothing: of some steps before."""
    every = 1e-9 if ending == "SIGKILL" else None
    values = {"train.epochs": 3, "train.batch_size": 32, "model.dropout": 0.3, "train.checkpoint_seconds": every}
    params, data = prepared_data(source, **{**values, **changes})
    whole, parts = workspace / "whole", workspace / "parts"
    whole.mkdir()
    parts.mkdir()
    uninterrupted = untimed(training.train(params, data, whole))

    steps_an_epoch = -(-len(data.train.targets) // 32)
    stop_at, trained, place = 1 + steps_an_epoch + 2, [], training.device.place  # the first step is the dry one

    def interrupt(*_):
        trained.append(torch.is_grad_enabled())
        if trained[-1] and sum(trained) == stop_at:
            if ending == "SIGKILL":
                raise ZeroDivisionError
            signal.raise_signal(signal.SIGINT)

    def placed(model, where):
        model.register_forward_hook(interrupt)
        return place(model, where)

    told = []
    with monkeypatch.context() as patched:
        patched.setattr(training.device, "place", placed)
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            told.extend(training.train(params, data, parts))
    last = checkpoints.newest(parts, print)
    assert (last["epoch"], last["step"]) == (1, 2 if ending == "SIGINT" else 1)
    rest = untimed(training.train(params, data, parts))
    assert f"going on after epoch 1 and {last['step']} of {steps_an_epoch} steps of 3" in capsys.readouterr().err
    assert rest == uninterrupted[1:]
    assert last_state(parts) == last_state(whole)
    assert flat(History(parts).read()[0]) == flat(History(whole).read()[0])


def test_a_history_that_was_damaged_is_written_anew_from_the_checkpoint(prepared_data, workspace, capsys):
    params, data = prepared_data("wine", **{"train.epochs": 4, "train.warmup_epochs": 1.0})
    list(training.train(params, data, workspace))
    path = History(workspace).path
    good = path.read_bytes()
    for bad, said in ((b"x" + good[1:], True), (good[:-30], False), (b"", False), (good + b'{"epo', False)):
        path.write_bytes(bad)
        training.train(params, data, workspace)
        assert path.read_bytes() == good
        assert ("history.jsonl was damaged: written anew" in capsys.readouterr().err) == said
    path.unlink()
    training.train(params, data, workspace)
    assert path.read_bytes() == good


def test_a_best_checkpoint_that_is_damaged_is_told_before_anything_is_trained(prepared_data, workspace):
    params, data = prepared_data("diabetes", "regression", **{"train.patience": 2, "train.lr": 0.02})
    list(training.train(params, data, workspace))
    best = checkpoints.path_of(workspace, checkpoints.newest(workspace, print)["best_epoch"])
    content = bytearray(best.read_bytes())
    content[1000] ^= 1
    best.write_bytes(content)
    assert best != checkpoints.found(workspace)[-1]
    with pytest.raises(
        InputError, match=r"is damaged: .* It is the best so far. To train from the start: rm .*/epoch-\*"
    ):
        training.train(params, data, workspace)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_checkpoint_that_cannot_be_written_ends_the_training_and_the_one_before_is_good(
    prepared_data, workspace, batch_size
):
    params, data = prepared_data(
        "wine", **{"train.epochs": 5, "train.warmup_epochs": 1.0, "train.batch_size": batch_size}
    )
    told = []
    with pytest.raises(RunError, match=r"the checkpoint could not be written: .* The one before it is kept"):  # noqa: PT012
        for epoch in training.train(params, data, workspace):
            told.append(epoch.number)
            if epoch.number == 2:
                # a folder in the way of the next one
                checkpoints.path_of(workspace, 4).mkdir()
                (checkpoints.path_of(workspace, 4) / "x").touch()
    assert told == [1, 2, 3]
    assert checkpoints.read(checkpoints.path_of(workspace, 3))["epoch"] == 3


def test_early_stopping_stops_after_its_patience_and_stays_stopped(prepared_data, workspace):
    params, data = prepared_data("diabetes", "regression", **{"train.patience": 2, "train.lr": 0.02})
    epochs = list(training.train(params, data, workspace))
    best = min(epochs, key=lambda epoch: epoch.val["loss"])
    assert epochs[-1].number == best.number + 2 < params.train.epochs
    assert list(training.train(params, data, workspace)) == []


@pytest.mark.parametrize(("monitor", "sign"), [("loss", 1), ("accuracy", -1)])
def test_the_best_epoch_follows_the_monitors_own_goal(prepared_data, workspace, monitor, sign):
    params, data = prepared_data("wine", **{"train.monitor": monitor, "train.epochs": 8})
    epochs = list(training.train(params, data, workspace))
    best = min(epochs, key=lambda epoch: (sign * epoch.val[monitor], epoch.number))
    state = training.best_state(workspace)
    assert (state["epoch"], state["best"]) == (best.number, best.val[monitor])
    assert state["metrics"][f"val/{monitor}"] == best.val[monitor]


def test_an_epoch_is_told_only_once_it_is_on_disk(prepared_data, workspace):
    params, data = prepared_data("wine", **{"train.epochs": 3, "train.warmup_epochs": 1.0})
    for epoch in training.train(params, data, workspace):
        state = checkpoints.read(checkpoints.path_of(workspace, epoch.number))
        assert state["epoch"] == epoch.number
        assert History(workspace).read()[0][-1]["val/loss"] == epoch.val["loss"]


def test_the_loss_of_every_step_is_kept_also_of_a_training_that_went_on(prepared_data, workspace, tmp_path):
    params, data = prepared_data("wine", **{"train.epochs": 4, "train.warmup_epochs": 1.0, "train.batch_size": 16})
    for epoch in training.train(params, data, workspace):
        if epoch.number == 2:
            break
    (tmp_path / "whole").mkdir()
    whole = list(training.train(params, data, tmp_path / "whole"))
    list(training.train(params, data, workspace))
    for folder in (workspace, tmp_path / "whole"):
        steps = [record["losses"].tolist() for record in Steps(folder).read()[0]]
        assert steps == [epoch.losses.tolist() for epoch in whole]
        assert len(steps[0]) == len(training.assemble(params, data)[1])


def test_a_checkpoint_says_what_it_is(prepared_data, workspace):
    params, data = prepared_data("wine", **{"train.epochs": 3, "train.warmup_epochs": 1.0})
    epochs = list(training.train(params, data, workspace))
    state = checkpoints.newest(workspace, print)
    assert set(state) == {
        *(
            "epoch",
            "step",
            "model",
            "optimizer",
            "scaler",
            "random",
            "metrics",
            "params",
            "data",
            "best",
            "best_epoch",
            "history",
        )
    }
    assert state["params"] == params.model_dump(include={"seed", "task", "model", "train"})
    assert state["data"] == data.schema.digest
    assert state["metrics"]["train/loss"] == epochs[-1].train["loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "cnn"}, "'cnn' cannot take this data .* use linear, mlp"),
        ({"train.augment.crop": 1}, "train.augment changes images, and this data is a table"),
        ({"train.device": "cuda:99"}, "'cuda:99' is not on this machine. It has: auto, .*cpu"),
    ],
)
def test_params_that_do_not_fit_are_refused_before_anything_is_written(prepared_data, workspace, changes, message):
    params, data = prepared_data("wine")
    folder = workspace / "folder"
    with pytest.raises(InputError, match=message):
        training.train(changed(params, changes), data, folder)
    assert not folder.exists()


def test_a_loss_that_is_not_finite_keeps_earlier_checkpoints(prepared_data, workspace):
    changes = {"train.optimizer": "sgd", "train.lr": 30.0, "train.loss": "mse", "train.warmup_epochs": 20.0}
    params, data = prepared_data("diabetes", "regression", **changes)
    told = []
    with pytest.raises(RunError, match="at learning rate"):
        told.extend(training.train(params, data, workspace))
    assert len(History(workspace).read()[0]) >= 1
    assert checkpoints.newest(workspace, print)["epoch"] == History(workspace).read()[0][-1]["epoch"]


def test_a_monitor_that_was_never_a_number_has_no_best(workspace):
    (workspace / "empty").mkdir()
    with pytest.raises(RunError, match=r"Choose another train.monitor"):
        training.best_state(workspace / "empty")


def test_a_changed_training_gets_a_folder_of_its_own_and_says_what_changed(prepared_data, workspace, capsys):
    params, data = prepared_data("wine", **{"train.epochs": 3, "train.warmup_epochs": 1.0})
    with training.workplace(fingerprint.of(params, data.schema), params.train) as folder:
        list(training.train(params, data, folder))
    other = changed(params, {"train.lr": 0.5})
    with training.workplace(fingerprint.of(other, data.schema), other.train) as another:
        assert another != folder
    assert "changed since the last training: train.lr: 0.002 → 0.5" in capsys.readouterr().err
    with training.workplace(fingerprint.of(params, data.schema), params.train) as same:
        assert same == folder
        list(training.train(params, data, same))
    said = capsys.readouterr().err
    assert "going on after epoch 3 of 3" in said
    assert "changed" not in said


def test_weights_and_the_sampler_move_a_model_towards_the_rare_class(workspace):
    draw = np.random.default_rng(0)
    rare = np.arange(600) % 12 == 0
    rows = pd.DataFrame(
        {"a": draw.normal(size=600) + rare, "b": draw.normal(size=600), "y": np.where(rare, "yes", "no")}
    )
    rows.to_csv("mine.csv", index=False)
    recall = {}
    weighed = {
        "not at all": {},
        "balanced": {"train.class_weights": "balanced"},
        "by name": {"train.class_weights": {"yes": 11.0}},
        "positives": {"train.pos_weight": 11.0},
        "sampler": {"train.sampler": "balanced"},
    }
    for name, weights in weighed.items():
        values = {"prepare.source": "mine.csv", "prepare.target": "y", "task": "binary", "train.device": "cpu"}
        params = changed(Params(), {**values, **weights, "train.epochs": 20, "train.lr": 0.1, "model.name": "linear"})
        prepare(params)
        data = training.load_data()
        trainer, train, val = training.assemble(params, data)
        list(fit(trainer, train, val, 1, 20))
        outputs, targets, _ = evaluate(trainer.model, val, trainer.loss, trainer.autocast)
        recall[name] = ((outputs > 0) & (targets > 0)).sum() / targets.sum()
    assert recall.pop("not at all") < 0.3 < 0.6 < min(recall.values())
