"""Writes values into params.yaml, leaving its comments, order and all other values as they are."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

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
        if place.get(name) != value:
            changes.append(f"{key}: {place.get(name)} → {value}")
            place[name] = value
    check(content, str(path))
    text = io.StringIO()
    yaml.dump(content, text)
    files.write_bytes(path, text.getvalue().encode())
    return changes
