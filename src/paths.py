"""The file names that dvc.yaml states too, and the project root.

Names are relative to the workspace, the folder a stage runs in. Under `dvc exp run --temp` and `--queue` that is
a throw-away copy; what must outlive it (the MLflow store, checkpoints, the study) lies under `root()`.
"""

import os
from pathlib import Path

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
MARK = "fingerprint.json"  # in a training's folder, written each time it begins
PREPARED = Path("data/prepared")
SCHEMA = PREPARED / "schema.json"

MODELS = Path("models")
WEIGHTS = MODELS / "model.safetensors"
SPEC = MODELS / "model.json"
RUN = MODELS / "run.json"
USED = MODELS / "used.json"

REPORTS = Path("reports")
HISTORY = REPORTS / "history.csv"
DATA_REPORT = REPORTS / "data.html"
COLUMNS = REPORTS / "columns.csv"
TABLES = REPORTS / "tables"
PICTURES = REPORTS / "plots"
PROFILE = REPORTS / "profile"
STUDY = REPORTS / "tune"


def root() -> Path:
    """The project's own folder. DVC names it in DVC_ROOT, also from inside a temporary workspace."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def outbox() -> Path:
    """Where what is said of runs waits until MLflow has been told."""
    return root() / "models" / "outbox"


def checkpoints() -> Path:
    """Where trainings keep their checkpoints, one folder a fingerprint; neither git nor DVC looks there."""
    return root() / "models" / "checkpoints"
