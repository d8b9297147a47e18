"""python -m bench.startup: what the pipeline costs before and after its work, beside the bare imports it stands on.

  repro   `dvc repro` on digits with one epoch in a new clone of HEAD, its MLflow store and DVC cache not there yet,
          beside the sum of the imports that its stages cannot avoid, each in an interpreter of its own; and beside
          the same with MLflow's imported while the stage's own are, as Loopline does
  noop    the same again, with nothing to do, beside a DVC pipeline of four stages that only copy a file
  help    `python -m src.<name> --help` for every command

All of it is measured once a round; the table has the stages one by one, each run by itself in a second clone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd
from ruamel.yaml import YAML

from bench import report, turns
from src import cli

# What no stage can do its work without: DVC beside all, pandas and the bundled data for prepare, torch to compute,
# Matplotlib to draw, and MLflow's store to be told.
TOLD = "import mlflow.store.tracking.sqlalchemy_store"
IMPORTS = {
    "dvc": ["import dvc.cli, dvc.repo, dvc.repo.reproduce, dvc.stage.run"],
    "prepare": ["import pandas, sklearn.datasets, matplotlib.figure"],
    "train": ["import torch, matplotlib.figure", TOLD],
    "validate": ["import torch, matplotlib.figure", TOLD],
    "evaluate": ["import torch, matplotlib.figure", TOLD],
}
REPRO = ["-m", "dvc", "repro", "-q"]
NOOPS = 7  # times in each round that there is nothing to do
STAGES = [name for name in IMPORTS if name != "dvc"]
COPIES = {f"copy{n}": {"cmd": f"cp in{n} in{n + 1}", "deps": [f"in{n}"], "outs": [f"in{n + 1}"]} for n in range(4)}
QUIET = "[core]\n    analytics = false\n    check_update = false\n"  # as this project's .dvc/config
ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("DVC_", "MLFLOW_", "GIT_", "PYTHON")  # settings of the user that are not to be measured


def main() -> None:
    parser = report.parser("startup", __doc__, rounds=7)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bare = pipeline(Path(folder) / "bare")
        for number in range(1 if options.quick else options.rounds):
            rows.append(measure(Path(folder) / f"clone{number}", bare))
            cli.say(f"{number + 1}: " + ", ".join(f"{name} {rows[-1][name]:.2f} s" for name in ("repro", "noop")))
    times = pd.DataFrame(rows)
    alone, beside = (sum(times[f"{way} {name}"] for name in IMPORTS) for way in ("import", "import beside"))
    slowest = times[[name for name in times if name.startswith("help ")]].max(axis=1)
    headlines = [
        report.Headline("dvc repro from clean, in imports", turns.ratio(times["repro"], alone), "at most 1.6"),
        report.Headline("the same, with MLflow's beside the others", turns.ratio(times["repro"], beside)),
        report.Headline(
            "dvc repro with nothing to do, in bare ones", turns.ratio(times["noop"], times["bare"]), "at most 1.15"
        ),
        report.Headline("the slowest --help, in seconds", float(slowest.median()), "at most 0.3"),
    ]
    report.finish("startup", not options.quick, options.json, headlines, table(times))


def table(times: pd.DataFrame) -> pd.DataFrame:
    """The medians, in seconds: what each stage takes by itself, and how much of it are imports it cannot avoid."""
    middle = times.median()
    rows = [
        {
            "what": f"stage {name}",
            "seconds": middle[f"stage {name}"],
            "imports": middle[f"import {name}"],
            "imports, MLflow's beside": middle[f"import beside {name}"],
        }
        for name in STAGES
    ]
    rest = [name for name in times if not name.startswith(("stage ", "import "))]
    return pd.DataFrame(rows + [{"what": name, "seconds": middle[name]} for name in rest])


def measure(clone: Path, bare: Path) -> dict[str, float]:
    """Every time in seconds, once; where there is nothing to do, which is over soon, the median of NOOPS."""
    found = {}
    make(clone)
    for name in STAGES:
        found[f"stage {name}"] = timed(clone, ["-m", f"stages.{name}"], DVC_ROOT=str(clone))
    shutil.rmtree(clone)
    make(clone)
    found["repro"] = timed(clone, REPRO)
    in_turn = [[timed(folder, REPRO) for folder in (clone, bare)] for _ in range(NOOPS)]
    found["noop"], found["bare"] = map(median, zip(*in_turn, strict=True))
    for name, lines in IMPORTS.items():
        found[f"import {name}"] = sum(timed(clone, ["-c", line]) for line in lines)
        found[f"import beside {name}"] = timed(clone, *(["-c", line] for line in lines))
    for name in commands():
        found[f"help {name}"] = timed(clone, ["-m", f"src.{name}", "--help"])
    shutil.rmtree(clone)
    return found


def commands() -> list[str]:
    """The modules of src that are run: python -m src.<name>."""
    files = [path for path in (ROOT / "src").glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    return sorted([path.stem for path in files] + [path.parent.name for path in (ROOT / "src").glob("*/__main__.py")])


def make(clone: Path) -> None:
    """A clone of HEAD, with this project's .venv, that trains one epoch."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    path = clone / "params.yaml"
    values = YAML().load(path)
    values["train"] |= {"epochs": 1, "warmup_epochs": 0}
    YAML().dump(values, path)


def pipeline(folder: Path) -> Path:
    """A DVC project of four stages, each of which copies a file, that has been run."""
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    timed(folder, ["-m", "dvc", "init", "-q"])
    (folder / ".dvc" / "config").write_text(QUIET)
    YAML().dump({"stages": COPIES}, folder / "dvc.yaml")
    (folder / "in0").write_text("0")
    timed(folder, REPRO)
    return folder


def timed(folder: Path, *commands: list[str], **environment: str) -> float:
    """Seconds that Python commands take beside each other; RuntimeError with what they printed when one fails."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OUTSIDE)}
    start = time.perf_counter()
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**kept, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in commands
    ]
    for process in started:
        printed, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{process.args} ended with {process.returncode}:\n{printed}")
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main)
