"""The repository: git, DVC's files, and the locks that DVC leaves behind when it is killed."""

import fcntl
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from voluptuous import Invalid
from zc.lockfile import LockFile

from src import files, paths
from src.doctor.finding import Finding, ok, wrong
from src.params import Params

LOCKFILE = "dvc.lock"


def git(_: Params) -> Iterator[Finding]:
    if not shutil.which("git"):
        yield wrong("git is not on the PATH, and DVC needs it", "install git")
        return
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--short", "HEAD"], cwd=paths.root(), capture_output=True, text=True
    )
    if done.returncode == 0:
        yield ok(f"commit {done.stdout.strip()}")
    elif "not a git repository" in done.stderr:
        yield wrong(f"{paths.root()} is no git repository, and DVC needs one", "git init && git add -A && git commit")
    else:
        yield wrong(f"git has no commit here ({done.stderr.strip()})", "git add -A && git commit")


def pipeline(_: Params) -> Iterator[Finding]:
    """Whether DVC reads its own files."""
    lock = paths.root() / LOCKFILE
    if not (paths.root() / ".dvc").is_dir():
        yield wrong(f"{paths.root()} has no folder .dvc", "git checkout .dvc, or: dvc init")
    elif why := _broken(lock):
        yield wrong(f"{LOCKFILE} {why}", f"git checkout {LOCKFILE}, or: rm {LOCKFILE} && dvc repro")
    else:
        yield from _dvc_yaml()


def _broken(lock: Path) -> str:
    """Why a dvc.lock cannot be read; nothing when it can, or there is none yet."""
    from ruamel.yaml import YAML, YAMLError

    try:
        content = YAML(typ="safe").load(lock.read_text(encoding="utf-8")) if lock.exists() else {"stages": {}}
    except (YAMLError, UnicodeDecodeError) as error:
        return f"is not valid YAML: {' '.join(str(error).split())}"
    return "" if isinstance(content, dict) and isinstance(content.get("stages"), dict) else "has no stages"


def _dvc_yaml() -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(paths.root())) as repo:
            yield ok(f"dvc.yaml: {sum(not stage.is_data_source for stage in repo.index.stages)} stages")
    except DvcException as error:
        said = " ".join(str(error).split())
        yield wrong(said, "git diff shows what was changed, git checkout undoes it")


def locks(_: Params) -> Iterator[Finding]:
    """Who holds DVC's locks, and what of them is left by processes that are gone.

    `.dvc/tmp/lock` is let go of by the kernel, however its process ends, so it can only be in use. `.dvc/tmp/rwlock`
    is JSON, {"write": {path: info}, "read": {path: [info, …]}} where info is {"pid": …, "cmd": …}, and stays.
    """
    path = _rwlock()
    try:
        stale = sorted({(info["pid"], info["cmd"]) for info in _infos() if not _lives(**info)})
    except (ValueError, Invalid):
        yield wrong(f"{path} is torn, and no dvc repro can run until it is gone", "removes it", partial(_clean, path))
        return
    for pid, command in stale:
        said = f"{path} has entries of process {pid} ({command}), which is gone"
        yield wrong(said, "removes them", partial(_clean, path))
    if not stale:
        running = busy()
        yield ok(f"in use by {', '.join(running)}" if running else "no dvc command is running")


def busy() -> list[str]:
    """The dvc commands that run in this project. ValueError or Invalid when .dvc/tmp/rwlock is torn."""
    found = {f"process {info['pid']} ({info['cmd']})" for info in _infos() if _lives(**info)}
    lock = paths.root() / ".dvc/tmp/lock"
    return sorted(found | ({f"process {lock.read_text(encoding='ascii').strip()}"} if _is_held(lock) else set()))


def _rwlock() -> Path:
    return paths.root() / ".dvc/tmp/rwlock"


def _infos() -> list[dict[str, Any]]:
    content = _read(_rwlock()) if _rwlock().exists() else {"write": {}, "read": {}}
    return [*content["write"].values(), *itertools.chain(*content["read"].values())]


def _read(path: Path) -> dict[str, Any]:
    """ValueError or Invalid when DVC could not read it either."""
    from dvc.rwlock import SCHEMA

    return SCHEMA(json.loads(path.read_text(encoding="utf-8")))


def _lives(pid: int, cmd: str) -> bool:
    """Whether a process still is what wrote an entry: its number may belong to another program by now."""
    try:
        running = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return running.endswith(" ".join(cmd.split()[1:]))


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _clean(path: Path) -> str:
    """Keep the entries of the living, under the lock that DVC takes to edit the file."""
    guard = LockFile(str(path.with_name("rwlock.lock")))
    try:
        content = _read(path)
        written = {place: info for place, info in content["write"].items() if _lives(**info)}
        read = {place: [info for info in infos if _lives(**info)] for place, infos in content["read"].items()}
        kept = {"write": written, "read": {place: infos for place, infos in read.items() if infos}}
        files.write_bytes(path, json.dumps({name: part for name, part in kept.items() if part}).encode())
    except (ValueError, Invalid):
        path.unlink()
    finally:
        guard.close()
    return "Removed"
