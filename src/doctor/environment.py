"""What the project stands on: params, versions, .venv, the device, and room on the disk."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from src import device, files, params, paths
from src.doctor.finding import Finding, ok, wrong
from src.errors import InputError
from src.params import Params

SHOWN = ("torch", "mlflow", "dvc", "optuna", "pandas")
ROOM = 1e9  # bytes: what a run needs beside its checkpoints
INODES = 10_000


def params_file(_: Params) -> Iterator[Finding]:
    try:
        values = params.load().flat()
        yield ok(f"{paths.PARAMS}: {len(values)} params, each within its bounds")
    except InputError as error:
        said = "; ".join(line.strip() for line in str(error).splitlines()).replace(":;", ":")
        yield wrong(f"{said} (the other checks use the defaults)", f"edit it, or: git checkout {paths.PARAMS}")


def versions(_: Params) -> Iterator[Finding]:
    """What is installed against the ranges in pyproject.toml."""
    project = tomllib.loads((paths.root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = platform.python_version()
    bad = [] if python in SpecifierSet(project["requires-python"]) else [f"Python {python}"]
    for wanted in map(Requirement, project["dependencies"]):
        installed = _installed(wanted.name)
        if installed is None or not wanted.specifier.contains(installed, prereleases=True):
            bad.append(f"{wanted.name} {installed or 'missing'} (wanted: {wanted.specifier or 'any'})")
    if bad:
        yield wrong(f"outside the ranges of pyproject.toml: {', '.join(bad)}", "make setup")
    else:
        yield ok(", ".join([f"Python {python}", *(f"{name} {_installed(name)}" for name in SHOWN)]))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def venv(_: Params) -> Iterator[Finding]:
    """.venv against requirements.lock, by the stamp that `make setup` leaves."""
    place = paths.root() / ".venv"
    if not (place / "bin/python").exists():
        yield wrong(f"{place}/bin/python is missing, and the stages run with it", "make setup")
    elif place.is_symlink():
        yield ok(f".venv is an environment of your own: {place.resolve()}")
    elif not _stamped(place):
        yield wrong(".venv was not made from this requirements.lock, or not in this place", "make setup")
    elif strays := _strays(place):
        yield wrong(f"not as in requirements.lock: {', '.join(strays)}", "rm .venv/.from-lock && make setup")
    else:
        yield ok(".venv is as requirements.lock says")


def _stamped(place: Path) -> bool:
    """What the Makefile's MADE_FROM compares: version and place of .venv's Python, then the lock."""
    code = "import sys; print(sys.version_info[:2], sys.executable)"
    done = subprocess.run([place / "bin/python", "-ISc", code], capture_output=True, check=False)
    stamp = place / ".from-lock"
    return stamp.is_file() and stamp.read_bytes() == done.stdout + (paths.root() / "requirements.lock").read_bytes()


def _strays(place: Path) -> list[str]:
    """Packages whose version is another one than the lock's, where this is the environment that runs."""
    if Path(sys.prefix) != place:
        return []
    lines = (paths.root() / "requirements.lock").read_text(encoding="utf-8").splitlines()
    strays = []
    for name, _, wanted in (line.partition("==") for line in lines if "==" in line and not line.startswith("#")):
        installed = _installed(name)
        if installed is None or Version(installed).public != Version(wanted).public:  # torch's build is the machine's
            strays.append(f"{name} {installed or 'missing'} (lock: {wanted})")
    return strays


def device_in_use(settings: Params) -> Iterator[Finding]:
    try:
        chosen = device.select(settings.train.device)
        yield ok(f"train.device: {settings.train.device} is {device.describe(chosen)}; {os.cpu_count()} CPU cores")
    except InputError as error:
        yield wrong(str(error), "set train.device: auto in params.yaml")


def disk(_: Params) -> Iterator[Finding]:
    """Room where files are written, each disk once: models/ needs the last checkpoints three times over."""
    models, seen, free = paths.root() / "models", set(), []
    for place, needed in ((models, max(ROOM, 3 * _last_checkpoints())), (paths.root(), ROOM), (_temporary(), ROOM)):
        where = place if place.exists() else place.parent
        if (disk := where.stat().st_dev) in seen:
            continue
        seen.add(disk)
        room, inodes = shutil.disk_usage(where).free, os.statvfs(where)
        free.append(f"{room / 1e9:.1f} GB free in {place}")
        if room < needed:
            yield wrong(f"{free[-1]}, and {needed / 1e9:.1f} GB are needed", "make room, or: make clean-checkpoints")
        if inodes.f_files and inodes.f_favail < INODES:  # some file systems have no limit, and say 0
            yield wrong(f"{inodes.f_favail} more files fit in {place}", "remove what is small and many, as old caches")
    yield ok(", ".join(free))


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _last_checkpoints() -> int:
    """Bytes of the training last begun."""
    marks = sorted(paths.checkpoints().glob(f"*/{paths.MARK}"), key=lambda mark: mark.stat().st_mtime)
    return files.size(marks[-1].parent) if marks else 0
