import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from src.compare import apart, choose
from src.compare.__main__ import main
from src.errors import InputError
from src.metrics import METRICS
from src.sections import Tracking
from src.tracking import runs
from src.tracking.runs import Found, Wanted

ROOT = Path(__file__).parents[1]
SAME = {"data.digest": "d" * 64, "data.source": "s" * 64, "code.digest": "c" * 64, "git.commit": "a" * 40}
PREPARED, EDITED = SAME | {"data.digest": "e"}, SAME | {"code.digest": "e"}
FIRST = {"best_val/loss": 0.2, "best_val/accuracy": 0.9, "test/loss": 0.3}
# name, params, metrics, tags: in the order in which they began, a minute apart
RUNS = [
    ("old", {"seed": "0", "train.lr": "0.1"}, {"best_val/loss": 0.5, "best_val/accuracy": 0.7, "test/loss": 0.1}, SAME),
    ("seed0", {"seed": "0", "train.lr": "0.2"}, FIRST, SAME),
    ("seed1", {"seed": "1", "train.lr": "0.2"}, {"best_val/loss": 0.4, "best_val/accuracy": 0.8}, SAME),
    ("odd", {"seed": "1", "train.lr": "0.1"}, {"best_val/loss": math.nan, "val/accuracy": math.inf}, {}),
    ("it's", {"seed": "1", "train.lr": "0.1"}, {"lr": 0.1}, {}),
    ("tune-x", {"seed": "0", "train.lr": "0.2", "model.name": "mlp"}, {"best_val/loss": 0.01}, {"role": "study"}),
    ("trial-000", {"train.lr": "0.3"}, {"best_val/loss": 0.01}, {runs.PARENT: "tune-x", "study": "x"}),
]


def fill(client):
    """RUNS in experiment loopline, beside a run that was deleted and one of another experiment; name → id."""
    there = client.get_experiment_by_name("loopline")  # of an earlier test on the same server
    experiment_id, ids = there.experiment_id if there else client.create_experiment("loopline"), {}
    for number, (name, params, metrics, tags) in enumerate(RUNS, 1):
        tags = {key: ids.get(value, value) for key, value in tags.items()}
        run_id = ids[name] = client.create_run(experiment_id, 60_000 * number, tags, name).info.run_id
        points = [Metric(key, value, 1000, 0) for key, value in metrics.items()]
        client.log_batch(run_id, points, [Param(*pair) for pair in params.items()], [RunTag("kind", "test")])
        client.set_terminated(run_id, "FINISHED", 60_000 * number + 1)
    client.log_metric(ids["old"], "best_val/loss", 0.6, 1001, 1)  # the last value counts
    client.delete_run(client.create_run(experiment_id, 0, {}, "deleted").info.run_id)
    client.create_run(client.create_experiment("other"), 0, {}, "elsewhere")
    return ids


@pytest.fixture(scope="module")
def filled(empty_store, tmp_path_factory):
    """(path, ids) of an SQLite store with RUNS. To be copied, not changed."""
    path = shutil.copy2(empty_store, tmp_path_factory.mktemp("filled") / "mlflow.db")
    return path, fill(MlflowClient(f"sqlite:///{path}"))


@pytest.fixture
def compare(filled, workspace, monkeypatch, capsys):
    """compare(word, …) → what the command prints, in a project with RUNS; `ids` are those of the runs by name."""
    shutil.copy2(filled[0], workspace / "mlflow.db")
    shutil.copy2(ROOT / "params.yaml", workspace)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["compare", *words])
        main()
        return capsys.readouterr().out

    call.ids = filled[1]
    return call


def rows(printed):
    """The first table of what was printed, as lists of words."""
    return [line.split() for line in printed.splitlines() if line[:1] not in ("*", "N")]


def plain(found):
    """repr, as NaN is not equal to itself."""
    return [[repr(sorted(part.items()) if isinstance(part, dict) else part) for part in run] for run in found]


def as_mlflow_says(address):
    client = MlflowClient(address)
    found = client.search_runs([client.get_experiment_by_name("loopline").experiment_id])
    params = {run.info.run_id: run.data.params for run in found}
    every = [(run.info, run.data) for run in found if run.data.tags.get("role") != "study"]
    return [
        Found(
            info.run_id,
            info.run_name,
            info.status,
            info.start_time / 1000,
            params.get(data.tags.get(runs.PARENT), {}) | data.params,
            data.metrics,
            data.tags,
        )
        for info, data in every
    ]


def test_what_is_read_from_the_tables_is_what_mlflow_says(filled):
    address = f"sqlite:///{filled[0]}"
    found = runs.search(Tracking(uri=address), Wanted(100, trials=True))
    assert [run.name for run in found] == ["trial-000", "it's", "odd", "seed1", "seed0", "old"]
    assert found[0].params == {"seed": "0", "train.lr": "0.3", "model.name": "mlp"}  # the study's, too
    assert plain(found) == plain(as_mlflow_says(address))


def test_the_newest_come_first_with_what_differs_and_the_best_marked(compare):
    printed = compare()
    header, *table = rows(printed)
    assert header == [
        "name",
        "id",
        "status",
        "started",
        "seed",
        "train.lr",
        "best_val/loss",
        "best_val/accuracy",
        "test/loss",
    ]
    assert [row[0] for row in table[:5]] == ["it's", "odd", "seed1", "seed0", "old"]
    assert table[3][5:] == ["0", "0.2", "0.2*", "0.9*", "0.3"]  # date and time are two words
    assert table[1][5:] == ["1", "0.1", "nan", "-", "-"]
    two = [compare.ids[name][:8] for name in ("it's", "odd")]
    assert printed.endswith(f"Next: python -m src.compare {' '.join(two)}, or make ui\n")


def test_runs_that_differ_in_their_seed_alone_are_a_mean_with_its_deviation(compare):
    printed = compare().partition("mean ± standard deviation over seeds\n")[2]
    header, row = ([word.strip() for word in line.split("  ") if word] for line in printed.splitlines()[:2])
    assert header == ["seeds", "train.lr", "best_val/loss", "best_val/accuracy", "test/loss"]
    assert row == ["2", "0.2", "0.3 ± 0.14", "0.85 ± 0.071", "-"]


def test_trials_are_shown_when_asked_for_and_the_run_of_a_study_never(compare):
    header, *table = rows(compare("--trials"))
    place = header.index("study") + 1  # date and time are two words
    of_study = {row[0]: row[place] for row in table[: len(RUNS) - 1]}
    assert of_study["trial-000"] == "x"
    assert of_study["seed1"] == "-"
    assert "tune-x" not in of_study
    assert "trial-000" not in [row[0] for row in rows(compare())]


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (["--metric", "loss"], ["seed0", "seed1", "old"]),  # NaN is no number to be ordered by
        (["--metric", "accuracy"], ["seed0", "seed1", "old"]),
        (["--metric", "test/loss"], ["old", "seed0"]),
        (["--metric", "loss", "--trials"], ["trial-000", "seed0", "seed1", "old"]),
        (["--metric", "loss", "--last", "3"], ["seed1", "it's", "odd"]),
        (["--last", "2"], ["it's", "odd"]),
    ],
)
def test_a_metric_orders_by_its_own_goal(compare, words, order):
    assert [run["name"] for run in json.loads(compare(*words, "--json"))["runs"]] == order


@pytest.mark.parametrize("name", METRICS)
def test_the_best_comes_first_whatever_the_metric(name):
    values = [2.0, math.nan, 1.0, None, 3.0]
    found = [Found(str(n), "", "", 0, {}, {} if v is None else {name: v}, {}) for n, v in enumerate(values)]
    first = choose.ranked(found, name)[0].metrics[name]
    assert first == apart.best(name, values) == (1.0 if METRICS[name].goal == "minimise" else 3.0)
    assert [run.run_id for run in choose.ranked(found, name)[-2:]] == ["1", "3"]


def test_two_runs_are_put_side_by_side(compare):
    printed = compare("seed0", compare.ids["old"][:9])
    table = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}
    assert table["id"] == [compare.ids["seed0"][:8], compare.ids["old"][:8]]
    assert table["train.lr"] == ["0.2", "0.1"]
    assert "seed" not in table
    assert table["best_val/loss"] == ["0.2*", "0.6"]
    assert table["test/loss"] == ["0.3", "0.1"]
    assert table["git.commit"] == ["a" * 8, "a" * 8]
    assert printed.endswith(
        "They saw the same data (dddddddd)\nThey ran the same training code (cccccccc)\n"
        "What can have made the numbers differ: train.lr\nNext: make ui, for their curves\n"
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (SAME, ["the same data (", "the same training code (", "Nothing that shapes a training differs"]),
        (PREPARED, ["same source, prepared differently", "same training code", "differ: the data"]),
        (PREPARED | {"data.source": "e"}, ["not see the same data: its source", "same training code", "the data"]),
        (EDITED | {"git.commit": "b" * 40}, ["same data", "git diff aaaaaaaa bbbbbbbb -- src", "the code"]),
        (EDITED | {"git.dirty": "true"}, ["same data", "commit aaaaaaaa, and what was not committed in 2", "code"]),
        ({}, ["no tag data.digest in 2", "not known: no tag code.digest in 2", "differ: the data, the code"]),
    ],
)
def test_it_is_said_whether_data_and_code_were_the_same(other, said):
    tags = {"1": SAME, "2": other}
    pair = [Found(key, "", "FINISHED", 0, {"tune.trials": key}, {}, tags[key]) for key in tags]
    for line, words in zip(apart.verdict(pair), said, strict=True):
        assert words in line


def test_a_group_takes_of_each_seed_the_newest_that_is_finished_and_no_other_code():
    def one(number, seed, status="FINISHED", **tags):
        params = {"seed": seed, "tune.trials": str(number)}
        return Found(str(number), "", status, number, params, {"val/loss": number}, SAME | tags)

    found = [one(1, "0"), one(2, "0"), one(3, "1"), one(4, "2", "KILLED"), one(5, "3", **{"code.digest": "e"})]
    (group,) = apart.by_seed(found)
    assert [run.run_id for run in group] == ["2", "3"]
    # a trial is a mean of seeds of its own
    assert apart.by_seed([run._replace(tags={**run.tags, apart.STUDY: "x"}) for run in found]) == []
    assert apart.spread(group, "val/loss") == (2.5, math.sqrt(0.5), 2)
    assert apart.spread(group, "val/rmse") is None
    broken = [run._replace(metrics={"val/loss": math.nan}) for run in group]
    assert str(apart.spread(broken, "val/loss")) == "nan ± nan"


def test_json_and_csv_have_numbers_in_full(compare):
    found = json.loads(compare("--metric", "loss", "--json"))
    assert found["runs"][0]["metrics"] == FIRST
    assert found["runs"][0]["started"] == "1970-01-01T00:02:00Z"
    (group,) = found["seeds"]
    assert group["runs"] == [compare.ids["seed0"], compare.ids["seed1"]]
    assert group["metrics"]["best_val/loss"] == pytest.approx({"mean": 0.3, "deviation": math.sqrt(0.02), "seeds": 2})
    table = list(csv.DictReader(io.StringIO(compare("--csv"))))
    assert [row["params.train.lr"] for row in table] == ["0.1", "0.1", "0.2", "0.2", "0.1"]
    assert [row["metrics.best_val/loss"] for row in table] == ["", "", "0.4", "0.2", "0.6"]
    assert table[0]["tags.data.digest"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["seed0", "seed2"],
            r"'seed2': no run of experiment loopline .* Did you mean seed[01]\? python -m",
        ),
        (["seed0", ""], r"RUN '' is not one run: give more of the id of one of these\n  [0-9a-f]{32} .*\n(.*\n)*  …"),
        (["seed0", "seed0"], "seed0, seed0 are not different runs: name each once"),
        (["--metric", "acuracy"], r"--metric acuracy: must be one of loss, accuracy, .*Did you mean accuracy\?"),
        (["--metric", "rmse"], "no run has best_val/rmse or val/rmse or test/rmse. They have: best_val/accuracy, best"),
        (["seed0", "old", "--metric", "train/loss"], "no run has train/loss. They have: best_val/accuracy"),
    ],
)
def test_what_is_mistyped_is_bad_input(compare, words, message):
    with pytest.raises(InputError, match=message):
        compare(*words)


@pytest.mark.parametrize("words", ["seed0", "seed0 old --last 3", "seed0 old --trials", "--last 0"])
def test_options_that_do_not_fit_are_bad_input(compare, words):
    with pytest.raises(SystemExit) as ended:
        compare(*words.split())
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (None, r"there is no MLflow store sqlite:.*mlflow.db yet: make repro makes it"),
        ("http://me:secret@127.0.0.1:9", r"http://\*\*\*@127.0.0.1:9 does not answer"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:9/x", r"\*\*\*@127.0.0.1:9/x cannot be used: .*Connection refused"),
        ("sqlite:///empty.db", "cannot be used: .*no such table: experiments. Check tracking.uri"),
    ],
)
def test_a_store_that_is_not_there_is_bad_input_and_is_not_made(workspace, uri, message):
    (workspace / "empty.db").touch()
    with pytest.raises(InputError, match=message) as error:
        runs.search(Tracking(uri=uri), Wanted(1))
    assert "secret" not in str(error.value)
    assert [path.name for path in workspace.iterdir()] == ["empty.db"]


def test_an_experiment_that_is_not_there_or_has_no_runs_is_bad_input(filled, empty_store):
    with pytest.raises(InputError, match=r"'looplin' is not in .* loopline, other. Did you mean loopline\?"):
        runs.search(Tracking(uri=f"sqlite:///{filled[0]}", experiment="looplin"), Wanted(1))
    with pytest.raises(InputError, match="experiment Default has no runs yet: make repro makes one; --trials shows"):
        choose.listed(Tracking(uri=f"sqlite:///{empty_store}", experiment="Default"), None, 20, False, None)


def test_on_a_terminal_what_there_is_no_room_for_is_named(compare, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    printed = compare()
    assert max(len(re.sub("\x1b.*?m", "", line)) for line in printed.splitlines()[:5]) <= 80
    assert "no room for started, best_val/accuracy, test/loss: --csv has all" in printed
    monkeypatch.setenv("COLUMNS", "150")
    assert "no room" not in compare()


def test_the_command_needs_neither_mlflow_nor_pandas_for_a_database(compare, workspace):
    words = [sys.executable, "-X", "importtime", "-m", "src.compare", "seed0", "nobody"]
    done = subprocess.run(words, cwd=workspace, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: RUN 'nobody'" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sqlalchemy" in imported
    assert imported & {"mlflow", "pandas", "torch", "numpy"} == set()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_may_stop_reading(compare, workspace, unbuffered):
    around = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    words = [sys.executable, "-m", "src.compare", "--json"]
    process = subprocess.Popen(words, cwd=workspace, env=around, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (None, "make ui, for their curves"),
        ("sqlite:///copy.db", "mlflow server --backend-store-uri sqlite:////.*/copy.db, for their curves"),
    ],
)
def test_make_ui_is_the_next_step_only_where_it_shows_these_runs(compare, workspace, monkeypatch, uri, said):
    shutil.copy2(workspace / "mlflow.db", workspace / "copy.db")
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert re.search(f"Next: {said}\n$", compare("seed0", "old"))
