"""What the train stage leaves for the stages after it: the best model, the history, the report on the train split."""

from pathlib import Path
from typing import Any

from src import files, model_file, paths, training
from src.evaluation import Result
from src.fingerprint import Fingerprint
from src.params import Params
from src.tracking.history import History
from src.training import Data


def export(params: Params, data: Data, folder: Path, mark: Fingerprint) -> dict[str, Any]:
    """Write models/model.*, reports/history.csv and reports/train.json from a finished training; returns the last."""
    best = training.best_state(folder)
    history = History(folder)
    model_file.save(
        paths.MODELS,
        best["model"],
        data.schema,
        model=params.model.model_dump(),
        epoch=best["epoch"],
        monitor=params.train.monitor,
        val={key.removeprefix("val/"): value for key, value in best["metrics"].items() if key.startswith("val/")},
        fingerprint=mark.digest,
    )
    history.write_csv(paths.HISTORY)
    result = Result(params, model_file.load(), data.train)
    report = {**result.metrics, "best_epoch": best["epoch"], "epochs": history.read()[0][-1]["epoch"]}
    files.write_json(paths.REPORTS / "train.json", report)
    return report
