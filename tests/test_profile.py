import gzip
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from src import checkpoints, profile, training
from src.bottleneck import PARTS, Measured, Operator, advice, covered, summary
from src.fingerprint import closure
from src.profile import Profile, Stopwatch, plan
from src.sections import Train

SMALL = {"model.widths": [16], "train.warmup_epochs": 0.0}


def untimed(epochs):
    return [replace(epoch, samples_per_second=0.0) for epoch in epochs]


def profiled(params, data, folder, epochs=None):
    """Train with a profile, some epochs or all; returns them and the files that were made."""
    with Profile(params.train) as looking:
        trained = training.train(params, data, folder, looking.watch)
        found = [epoch for _, epoch in zip(range(epochs or params.train.epochs), trained, strict=False)]
        return found, looking.written(folder)


def trace():
    return json.loads(gzip.decompress(profile.TRACE.read_bytes()))["traceEvents"]


def labels():
    """The parts of steps that the trace shows: (begin, end, name), in microseconds, in their order."""
    events = [event for event in trace() if event.get("cat") == "user_annotation" and event["name"] in PARTS]
    return sorted((event["ts"], event["ts"] + event["dur"], event["name"]) for event in events)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.dropout": 0.4, "train.clip_norm": 1.0},
        {"model.name": "cnn", "model.channels": [4], "train.augment.crop": 1, "train.optimizer": "sgd"},
        {"train.patience": 2, "train.optimizer": "adam"},
    ],
)
def test_a_training_with_a_profile_is_the_training_without(prepared_data, workspace, changes):
    params, data = prepared_data("digits", **{"train.epochs": 6, **SMALL, **changes})
    without, beside = workspace / "without", workspace / "with"
    without.mkdir()
    beside.mkdir()
    epochs, files = profiled(params, data, beside)
    assert files == [profile.SUMMARY, profile.TRACE]
    assert untimed(epochs) == untimed(training.train(params, data, without))
    last, same = (checkpoints.newest(folder, print) for folder in (without, beside))
    assert all(torch.equal(last["model"][name], same["model"][name]) for name in last["model"])
    assert str(last["optimizer"]) == str(same["optimizer"])
    assert torch.equal(last["random"]["torch"], same["random"]["torch"])


def test_the_trace_shows_the_parts_of_steps_and_nothing_but_steps(prepared_data, workspace):
    params, data = prepared_data("digits", **{"train.epochs": 5, **SMALL})
    profiled(params, data, workspace)
    marked = labels()
    assert Counter(name for *_, name in marked) == {part: 20 * (1 + (part == "optimizer")) for part in PARTS}
    assert [name for *_, name in marked[:6]] == ["data", "optimizer", "forward", "backward", "optimizer", "between"]
    assert all(end <= start for (_, end, _), (start, *_) in pairwise(marked))
    operators = [event for event in trace() if event.get("cat") == "cpu_op"]
    outside = [op for op in operators if not any(start <= op["ts"] <= end for start, end, _ in marked)]
    assert len(operators) > 1000
    assert outside == []


def test_the_summary_adds_up_and_names_the_operators(prepared_data, workspace, capsys):
    params, data = prepared_data("digits", **{"train.epochs": 5, **SMALL})
    profiled(params, data, workspace)
    words = profile.SUMMARY.read_text()
    assert words in capsys.readouterr().err
    assert "cpu, 1 threads" in words
    assert "\n64 steps from step 11 on timed, 20 from step 81 on recorded" in words
    assert len(words.splitlines()) <= 30
    assert max(map(len, words.splitlines())) <= 120
    times = {line.split()[0]: float(line.split()[-2]) for line in words.splitlines() if line.endswith("%")}
    assert sum(times[part] for part in PARTS) == pytest.approx(times["a"], abs=0.003)
    assert times["aten::addmm"] > 0


def test_a_training_that_goes_on_is_profiled_and_one_that_is_complete_says_so(prepared_data, workspace, capsys):
    params, data = prepared_data("digits", **{"train.epochs": 4, **SMALL})
    _, files = profiled(params, data, workspace, epochs=2)
    assert files == []  # it stopped first
    assert not torch.autograd._profiler_enabled()
    assert profiled(params, data, workspace)[1] == [profile.SUMMARY, profile.TRACE]
    capsys.readouterr()
    assert profiled(params, data, workspace) == ([], [])
    assert f"fewer than two steps were left. To train from the start: rm {workspace}/epoch-*" in capsys.readouterr().err


@pytest.mark.parametrize(("epochs", "made"), [(1, 0), (2, 2), (3, 2)])
def test_as_few_steps_as_there_are_do(prepared_data, workspace, epochs, made):
    params, data = prepared_data("wine", **{"train.epochs": epochs, "train.batch_size": 500, **SMALL})
    found, files = profiled(params, data, workspace)
    assert (len(found), len(files)) == (epochs, made)
    assert not made or Counter(name for *_, name in labels())["forward"] == 1


def test_what_fails_while_steps_are_recorded_leaves_no_profiler_behind(prepared_data, workspace):
    params, data = prepared_data("digits", **{"train.epochs": 5, **SMALL})
    seen = []

    def watch(trainer, batches):
        looking.watch(trainer, batches)
        trainer.model.register_forward_hook(lambda *_: seen.append(1 / (not torch.autograd._profiler_enabled())))
        seen.append((trainer, batches))

    with pytest.raises(ZeroDivisionError), Profile(params.train) as looking:
        list(training.train(params, data, workspace, watch))
    assert not torch.autograd._profiler_enabled()
    trainer, batches = seen[0]
    assert "step" not in vars(trainer.optimizer)
    assert "epoch" not in vars(batches)


@given(some.integers(1, 200), some.integers(1, 40), some.data())
def test_what_is_planned_are_steps_that_will_be_there(length, epochs, data):
    stop = length * epochs
    first = data.draw(some.integers(0, max(0, stop - 2)))
    if stop - first > 1:
        timed, recorded = plan(first, stop, length)
        assert first <= timed.start < timed.stop <= recorded.start < recorded.stop <= stop
        assert recorded.start // length == (recorded.stop - 1) // length


def test_a_part_lasts_until_the_next_begins_and_nothing_between_steps_counts(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 6.0, 106.0, 107.0])
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch(torch.device("cpu"))
    for part in ("data", "forward", "between", profile.OUTSIDE, "data", profile.OUTSIDE):
        watch.note(part)
    none = dict.fromkeys(PARTS, 0.0)
    first = none | {"data": 1000.0, "forward": 2000.0, "between": 3000.0}
    assert watch.steps() == [first, none | {"data": 1000.0}]


PRODUCT, LIGHT = Operator("aten::mm", 10, 0.9, 0.6), Operator("aten::mm", 10, 0.5, 0.6)
WAIT = Operator("cudaStreamSynchronize", 1, 0.4, 0.0)


def measured(gpu=False, busy=0.0, recorded_ms=1.0, operators=(PRODUCT,), crop=0, **parts):
    return Measured(
        place="a device",
        settings=Train.model_validate({"augment": {"crop": crop}, "precision": "fp32"}),
        gpu=gpu,
        timed=range(1),
        recorded=range(1),
        steps=[{**dict.fromkeys(PARTS, 0.0), **parts}],
        recorded_ms=recorded_ms,
        operators=list(operators),
        busy_ms=busy,
    )


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"forward": 0.5, "backward": 0.5}, ["90% of a step computes, most of all in aten::mm: try a smaller model."]),
        (
            {"data": 0.4, "forward": 0.6, "operators": [LIGHT]},
            ["40% of a step gathers", "50% of a step goes into calls"],
        ),
        ({"data": 0.4, "forward": 0.6, "crop": 1}, ["try fewer changes of train.augment", "90% of a step computes"]),
        ({"gpu": True, "busy": 0.2, "forward": 1.0}, ["80% of a step has no kernel running: try a larger"]),
        ({"gpu": True, "busy": 0.9, "forward": 1.0}, ["try train.precision: bf16"]),
        (
            {"gpu": True, "busy": 0.6, "forward": 1.0, "operators": [PRODUCT, WAIT]},
            ["40% of a step waits", "40% of a step has no"],
        ),
        ({"forward": 1.0, "recorded_ms": 1.3}, ["measure again when it is quiet"]),
        ({"forward": 0.2, "optimizer": 0.6, "between": 0.2, "recorded_ms": 0.5}, ["measure again when it is quiet"]),
    ],
)
def test_advice_follows_from_the_numbers(numbers, words):
    found = measured(**numbers)
    said = advice(found)
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))
    assert summary(found).endswith("\n".join(["", *said, ""]))


def test_spans_that_overlap_count_once():
    assert covered([(0, 2000), (1000, 3000), (1500, 1600), (5000, 6000)]) == 4.0
    assert covered([]) == 0.0


def test_a_change_in_the_profile_makes_no_other_training():
    assert {"src/profile.py", "src/bottleneck.py"}.isdisjoint(closure(["src/training.py"]))


@pytest.mark.pipeline
def test_the_stage_keeps_the_profile_in_the_run_and_nowhere_else(new_project):
    project = new_project()
    project.set(**{"prepare.source": "wine", "train.epochs": 3, "train.warmup_epochs": 1, "train.device": "cpu"})
    project.run("python", "-m", "stages.prepare")
    before = project.run("git", "status", "--short")
    printed = project.run("python", "-m", "stages.train", "--profile")
    assert "Written: reports/profile/summary.txt" in printed
    assert "profiler_st" not in printed
    (run,) = project.runs()
    kept = {file.path for file in project.client.list_artifacts(run.info.run_id, "profile")}
    assert kept == {"profile/summary.txt", "profile/trace.json.gz"}
    assert "profile" not in project.run("git", "status", "--short").replace(before, "")
    assert "unrecognized arguments: --fast" in project.run("python", "-m", "stages.train", "--fast", code=2)
