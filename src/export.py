"""What the train stage leaves for the stages after it: the best model, the history, the report on the train split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src import cli, files, metrics, model_file, models, paths, training
from src.evaluation import Result
from src.fingerprint import Fingerprint
from src.model_file import Trained
from src.params import Params
from src.tracking.history import History
from src.training import Data


def export(params: Params, data: Data, folder: Path, mark: Fingerprint) -> dict[str, Any]:
    """Write models/model.*, reports/history.csv and reports/train.json from a finished training; returns the last."""
    best = training.best_state(folder)
    history = History(folder)
    save_model(paths.MODELS, params, data, best["model"], best["metrics"], mark)
    history.write_csv(paths.HISTORY)
    result = Result(params, model_file.load(), data.train)
    report = {**result.metrics, "best_epoch": best["epoch"], "epochs": history.read()[0][-1]["epoch"]}
    files.write_json(paths.REPORTS / "train.json", report)
    return report


def save_model(
    folder: Path,
    params: Params,
    data: Data,
    weights: dict[str, Any],
    record: dict[str, float],
    mark: Fingerprint,
    say: Callable[[str], None] = cli.say,
) -> None:
    """Write model.safetensors and model.json of a training into `folder`. record: that of the epoch of the weights."""
    model_file.save(
        folder,
        weights,
        data.schema,
        model=params.model.model_dump(),
        epoch=int(record["epoch"]),
        monitor=params.train.monitor,
        batch_size=params.train.batch_size,
        **({"threshold": _threshold(params, data, weights, say)} if params.task == "binary" else {}),
        val={key.removeprefix("val/"): value for key, value in record.items() if key.startswith("val/")},
        fingerprint=mark.digest,
    )


def _threshold(params: Params, data: Data, weights: dict[str, Any], say: Callable[[str], None]) -> float:
    """train.threshold, or the one that is best on the validation split."""
    wanted = params.train.threshold
    if isinstance(wanted, float):
        return wanted
    network = models.build(params.model.name, data.schema.shape, data.schema.outputs, params.model)
    network.load_state_dict(weights)
    result = Result(params, Trained(network.eval(), data.schema, {"batch_size": params.train.batch_size}), data.val)
    threshold = metrics.best_threshold(wanted, result.outputs, result.targets)
    say(f"threshold: {threshold:.3g}, for the best {wanted} on validation")
    return threshold
