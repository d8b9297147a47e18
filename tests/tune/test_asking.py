"""The study: what is asked next is a function of the seed and of what was there before, however often it was killed."""

import math
from collections import Counter

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from src.errors import InputError
from src.params import Params, changed
from src.tune import samplers, search, space, study

SPACE = {
    "train.lr": {"low": 1e-3, "high": 0.3, "log": True},
    "train.batch_size": {"low": 16, "high": 64, "step": 16},
    "train.optimizer": ["sgd", "adam"],
    "train.momentum": {"low": 0.5, "high": 0.95, "when": {"train.optimizer": "sgd"}},
    "model.widths": [[64], [256, 128]],
}
GRID = {"model.widths": [[64], [256, 128], [8]], "train.batch_size": {"low": 16, "high": 64, "step": 16}}


def params_of(sampler, **more):
    return changed(Params(), {"tune.sampler": sampler, "tune.space": GRID if sampler == "grid" else SPACE, **more})


def goodness(values):
    """A number that a trial with these values may have had."""
    return sum(hash_of(value) for value in values.values())


def hash_of(value):
    return len(value) / 10 if isinstance(value, str | list) else float(value) % 1


def run(params, schema, trials, kill_at=()):
    """The values of so many trials, by number. At the places `kill_at` the process is gone before the trial is told of:
    the study is opened anew."""
    asked, left, killed = {}, trials, set(kill_at)
    while left:
        with study.opened(params, schema) as tuning:
            while left:
                trial = tuning.ask()
                values = space.suggest(trial, params)
                if trial.number in killed:
                    killed.discard(trial.number)
                    tuning.flush()
                    break
                assert asked.setdefault(trial.number, values) == values
                trial.report(goodness(values), 1)
                tuning.study.tell(trial, goodness(values))
                tuning.flush()
                left -= 1
    return asked


@pytest.fixture
def schema(prepared_data):
    return prepared_data("wine")[1].schema


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_study_that_was_killed_goes_on_with_the_same_trials(schema, sampler, workspace):
    params = params_of(sampler)
    whole = run(params, schema, 12)
    (workspace / params.tune.storage).unlink()
    assert run(params, schema, 12, kill_at=(0, 1, 5, 11)) == whole
    assert sorted(whole) == list(range(12))
    for values in whole.values():
        changed(params, values)  # each can be trained with
        assert sampler == "grid" or ("train.momentum" in values) == (values["train.optimizer"] == "sgd")


def test_trials_that_ran_side_by_side_are_put_back_with_their_numbers(schema):
    params = params_of("tpe")
    with study.opened(params, schema) as tuning:
        first = {trial.number: space.suggest(trial, params) for trial in (tuning.ask() for _ in range(4))}
        tuning.flush()
    with study.opened(params, schema) as tuning:
        assert {trial.state for trial in tuning.study.trials} == {TrialState.WAITING}
        again = {trial.number: space.suggest(trial, params) for trial in (tuning.ask() for _ in range(4))}
    assert again == first


def test_a_search_that_goes_on_takes_as_many_lanes_as_before_if_it_may_have_as_many(schema, workspace, capsys):
    params = changed(Params(), {"tune.storage": str(workspace / "journal")})
    with study.opened(params, schema) as tuning:
        assert tuning.lanes(16) is None
        tuning.note_lanes(16, 4)
        tuning.note_lanes(16, 8)  # not measured again
        tuning.flush()
    assert capsys.readouterr().err.count("tune.lanes: 4, as measured") == 1
    with study.opened(params, schema) as tuning:
        assert (tuning.lanes(16), tuning.lanes(32)) == (4, None)
        tuning.note_lanes(32, 8)
        assert tuning.lanes(32) == 8


def test_a_grid_is_tried_whole_and_once(schema):
    params = params_of("grid", **{"tune.trials": 50})
    assert search.total(params) == 12
    asked = run(params, schema, 12)
    assert len({repr(values) for values in asked.values()}) == 12


def test_what_is_not_flushed_is_asked_again_and_what_is_written_is_noted(schema, workspace):
    params = params_of("random")
    journal = workspace / params.tune.storage
    with study.opened(params, schema) as tuning:
        tuning.flush()
        before = journal.read_bytes()
        values = space.suggest(tuning.ask(), params)
        assert journal.read_bytes() == before
    with study.opened(params, schema) as tuning:
        assert space.suggest(tuning.ask(), params) == values
        tuning.flush()
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b'"op_code":0', b'"op_code":1', 1))
    with pytest.raises(InputError, match="is damaged"), study.opened(params, schema):
        pass


@pytest.mark.parametrize("pruner", samplers.PRUNERS)
def test_a_trial_that_is_far_worse_is_pruned_and_the_best_never(schema, pruner):
    params = params_of("random", **{"tune.pruner": pruner, "train.epochs": 30})
    pruned = []
    with study.opened(params, schema) as tuning:
        for place in range(12):
            trial = tuning.ask()
            space.suggest(trial, params)
            level = 0.1 if place == 6 else 1.0 + place
            for epoch in range(1, 30):
                trial.report(level + epoch / 1000, epoch)
                if trial.should_prune():
                    pruned.append(place)
                    break
            state = TrialState.PRUNED if place in pruned else TrialState.COMPLETE
            tuning.study.tell(trial, None if state == TrialState.PRUNED else level, state)
    assert bool(pruned) == (pruner != "none")
    assert 6 not in pruned


def test_trials_that_are_begun_before_any_has_ended_are_spread_over_the_space(schema):
    params = params_of("qmc")
    with study.opened(params, schema) as tuning:
        asked = [space.suggest(tuning.ask(), params) for _ in range(32)][16:]
    lrs = sorted(math.log(values["train.lr"] / 1e-3) / math.log(0.3 / 1e-3) for values in asked)
    assert [int(16 * lr) for lr in lrs] == list(range(16))  # one in each sixteenth
    for key in ("train.optimizer", "train.batch_size"):
        counts = Counter(values[key] for values in asked)
        assert set(counts.values()) == {16 // len(counts)}
        assert len(counts) == (2 if key == "train.optimizer" else 4)


@pytest.mark.parametrize(
    "among",
    [
        IntDistribution(1, 100, log=True),
        IntDistribution(3, 12, step=3),
        FloatDistribution(1e-4, 0.3, log=True),
        FloatDistribution(0.1, 0.5, step=0.1),
        CategoricalDistribution(["a", "b", None]),
    ],
)
def test_every_value_is_in_its_range_and_the_ends_are_reached(among):
    values = [samplers.at(among, share / 1000) for share in range(1000)]
    assert all(among._contains(among.to_internal_repr(value)) for value in values)
    if isinstance(among, CategoricalDistribution):
        assert set(values) == set(among.choices)
    else:
        assert (min(values), max(values)) == pytest.approx((among.low, among.high), rel=0.01)


def test_a_database_whose_driver_is_missing_is_bad_input(workspace, schema):
    params = params_of("tpe", **{"tune.storage": "postgresql+pg8000://me:secret@127.0.0.1/studies"})
    with (
        pytest.raises(InputError, match=r"No module named 'pg8000'\. Install the database's driver") as error,
        study.opened(params, schema),
    ):
        pass
    assert "secret" not in str(error.value)
