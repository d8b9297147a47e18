"""Writes values into params.yaml, leaving its comments, order and all other values as they are."""

import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, CommentedSeq

from src import files, paths
from src.params import check


def apply(values: dict[str, Any], path: Path = paths.PARAMS) -> list[str]:
    """Set dotted keys in a params file; returns "key: before → after" for each that changed.

    The result is checked before it is written: a file that would not load is never left behind.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # never fold a line that was long before
    content = yaml.load(path.read_text(encoding="utf-8"))
    changes = []
    for key, value in values.items():
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        if name not in place or place[name] != value:
            changes.append(f"{key}: {text(place.get(name))} → {text(value)}")
            place[name] = _on_one_line(value) if isinstance(value, list) else value
    check(content, str(path))
    written = io.BytesIO()
    yaml.dump(content, written)
    files.write_bytes(path, written.getvalue())
    return changes


def text(value: Any) -> str:
    """A value as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _on_one_line(values: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence
