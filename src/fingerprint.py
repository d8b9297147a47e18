"""The identity of a training: the params that shape it, the data it sees, the code that runs it.

Equal fingerprints mean equal epochs, so checkpoints may be resumed; any difference means to start fresh.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src import files, paths
from src.data.schema import Schema
from src.errors import InputError
from src.params import Params

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fingerprint:
    """The three parts, kept readable so that two can be compared."""

    params: dict[str, Any]
    data: str
    code: dict[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Fingerprint") -> list[str]:
        """What changed from `other` to this, a short phrase each."""
        keys = sorted(self.params.keys() | other.params.keys())
        changes = [(key, other.params.get(key), self.params.get(key)) for key in keys]
        found = [f"{key}: {before} → {now}" for key, before, now in changes if before != now]
        if self.data != other.data:
            found.append(f"the prepared data ({other.data[:8]} → {self.data[:8]})")
        names = sorted(self.code.keys() | other.code.keys())
        return found + [f"code of {name}" for name in names if self.code.get(name) != other.code.get(name)]


def of(params: Params, schema: Schema) -> Fingerprint:
    """The fingerprint of training with `params` on the prepared data that `schema` describes."""
    shaping = {"seed", "task", *(key for key in params.flat() if key.startswith(("model.", "train.")))}
    # where it is kept, where its data lies and how it is looked at, not what it is
    shaping -= {key for key in shaping if key.startswith(("train.checkpoint", "train.resident", "train.fail_on"))}
    code = {name: files.sha256(PROJECT / name) for name in closure(["src/training.py"])}
    values = {key: value for key, value in params.flat().items() if key in shaping}
    return Fingerprint(values, schema.digest, code)


def write(folder: Path, mark: Fingerprint) -> None:
    files.write_sealed(folder / paths.MARK, asdict(mark))


def latest(folder: Path, mark: Fingerprint) -> list[str]:
    """What differs from the training last begun under `folder`; empty when there was none but this one."""
    begun = {}
    for path in folder.glob(f"*/{paths.MARK}"):
        with suppress(FileNotFoundError):  # another process has just removed what was unused for long
            if path.parent.name != mark.digest:
                begun[path] = path.stat().st_mtime
    if not begun:
        return []
    newest = max(begun, key=lambda path: begun[path])
    try:
        return mark.differences(Fingerprint(**files.read_sealed(newest)))
    except InputError:  # damaged, and no matter for this training
        return ["unknown, as the note on that one is damaged"]


def closure(start: Iterable[str]) -> list[str]:
    """The project's own files that the files in `start` import, directly or not, themselves included, sorted.

    Found in the source text, imports inside functions too, so that nothing has to be imported to know it.
    """
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imports(PROJECT / name)
    return sorted(seen)


def _imports(path: Path) -> list[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    own = [module.replace(".", "/") + ".py" for module in modules if module.split(".")[0] in ("src", "stages")]
    return [name for name in own if (PROJECT / name).is_file()]
