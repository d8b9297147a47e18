"""Where a run comes from: git commit, DVC stage and experiment, as MLflow tags."""

import getpass
import os
import platform
import subprocess

from src import paths

HOME = "run.home"  # the tag that says whose business a run is


def tags() -> dict[str, str]:
    """The tags that machine, git and DVC can tell; those of git are missing outside a repository."""
    found: dict[str, str] = {"mlflow.user": _user(), "mlflow.source.type": "LOCAL", HOME: home()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!reports")
        found |= {
            "git.commit": commit,
            "mlflow.source.git.commit": commit,
            "git.dirty": str(bool(changed)).lower(),
        }
    for tag, variable in (("dvc.stage", "DVC_STAGE"), ("dvc.exp", "DVC_EXP_NAME")):
        if os.environ.get(variable):
            found[tag] = os.environ[variable]
    stage = os.environ.get("DVC_STAGE")
    found["mlflow.source.name"] = f"dvc.yaml:{stage}" if stage else "python"
    return found


def home() -> str:
    """This machine and this project: who else but its processes could know whether a run still goes on?"""
    return f"{platform.node()}:{paths.root()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container that runs under a number without a name
        return str(os.getuid())


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""  # no git, or no repository: then there is no commit to tell
