"""What becomes of the best trial: written into params.yaml, trained by the pipeline, or told as a command."""

import shlex
import subprocess
import sys
from typing import Any

from src import files, params, paths
from src.errors import RunError
from src.tracking import reuse
from src.tune.apply import apply, text


def command(values: dict[str, Any]) -> str:
    """The line that trains with these values in an experiment of its own, params.yaml left as it is."""
    pairs = [f"{key}={text(value)}" for key, value in values.items()]
    return shlex.join(["dvc", "exp", "run", *(word for pair in pairs for word in ("-S", pair))])


def applied(values: dict[str, Any]) -> str:
    """Write the values into params.yaml; what changed, in words."""
    changes = apply(values)
    return "\n".join(["params.yaml:", *(f"  {change}" for change in changes)]) if changes else "params.yaml has them"


def reproduced(result: dict[str, Any]) -> str:
    """Run the pipeline with params.yaml as it is, mark its run with study and trial; how good the model is, in words.
    RunError when a stage fails."""
    for words in (["dvc", "repro"], ["src.reuse"]):
        if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
            raise RunError("the pipeline failed; it says why above. params.yaml has the values: dvc repro")
    taken = result["taken"]
    with reuse.rejoined(params.load()) as tracked:
        tracked.set_tags({"tuned.study": result["study"], "tuned.trial": str(taken["trial"])})
    lines = []
    for split in ("validate", "evaluate"):
        report = files.read_json(paths.REPORTS / f"{split}.json")
        numbers = [f"{name} {value:.4g}" for name, value in report.items() if isinstance(value, float)]
        lines.append(f"{'val' if split == 'validate' else 'test'}: {', '.join(numbers)}")
    lines.append(f"in the search: {result['label']} {taken['values'][0]:.4g}")
    return "\n".join([*lines, f"run: {tracked.name}, tagged with study and trial"])
