"""What a benchmark says at its end, and keeps: ratios with their spread, and what they were measured on.

`bench/results/<device>.json` has one entry a benchmark, the newest: command, commit, day, versions, headline, table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bench.turns import Ratio
from src import cli, files

RESULTS = Path("bench/results")
PACKAGES = ("torch", "mlflow", "dvc", "optuna", "lightning", "skorch", "ray")


class Headline(NamedTuple):
    """One number that a benchmark is run for, with its interval if it is a ratio, and what it should be in words."""

    what: str
    value: Ratio | float
    aim: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.3f}" if isinstance(self.value, float) else self.value
        return f"{self.what}: {value}" + (f"   aim: {self.aim}" if self.aim else "")

    def facts(self) -> dict[str, Any]:
        numbers = {"median": self.value} if isinstance(self.value, float) else self.value._asdict()
        return {"what": self.what, "aim": self.aim, **{key: round(value, 5) for key, value in numbers.items()}}


def parser(name: str, doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark; `--quick` is for trying it out, and keeps nothing. rounds: unless told."""
    options = argparse.ArgumentParser(
        prog=f"python -m bench.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="a short form, to see that it works; nothing is kept")
    options.add_argument("--rounds", type=_count, default=rounds, help=f"times that each is measured ({rounds})")
    options.add_argument("--json", action="store_true", help="print what would be kept, as JSON")
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def finish(
    name: str, is_kept: bool, is_json: bool, headlines: list[Headline], table: pd.DataFrame, part: str = ""
) -> None:
    """Print the outcome of a benchmark, or of a part of it, and keep it in place of the one before."""
    entry = {
        "command": " ".join(["python", "-m", f"bench.{name}", *sys.argv[1:]]),
        "commit": commit(),
        "day": time.strftime("%Y-%m-%d"),
        "device": device(),
        "versions": versions(),
        "headlines": [headline.facts() for headline in headlines],
        "table": json.loads(table.to_json(orient="records", double_precision=6)),
    }
    if is_json:
        print(json.dumps(entry, indent=1))
    else:
        print(table.to_string(index=False, float_format="%.4g"))
        print(f"\n{entry['device']}; " + ", ".join(f"{key} {value}" for key, value in versions().items()))
        print(*headlines, sep="\n")
    if is_kept:
        path = RESULTS / f"{slug(device())}.json"
        kept = json.loads(path.read_bytes()) if path.exists() else {}
        files.write_bytes(
            path, (json.dumps(kept | {f"{name}, {part}" if part else name: entry}, indent=1) + "\n").encode()
        )
        cli.say(f"kept in {path}")


def versions() -> dict[str, str]:
    """Of Python and of the packages that are measured, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def device() -> str:
    """The processor that computes, for people, with the number of its cores."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", about.read_text(), re.MULTILINE) if about.exists() else None
    return f"{named[1] if named else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def commit() -> str:
    """The commit that was measured, with "+" when the code is another."""
    asked = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "src", "stages", "bench/*.py"])
    head, changes = (subprocess.check_output(["git", *words], text=True).strip() for words in asked)
    return head + "+" * bool(changes)
