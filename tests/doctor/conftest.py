"""A project that has run, to be damaged and looked at."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from src.doctor import __main__ as command
from src.doctor import checks

CHECKS = checks.CHECKS


class Patient:
    """A project in a folder of its own, and the doctor in this process: its exit code, and its lines by subject."""

    def __init__(self, path, capsys, monkeypatch):
        self.path, self._capsys, self._monkeypatch = path, capsys, monkeypatch

    def look(self, *options, only=None):
        """All checks, or the one of a subject."""
        chosen = {only: CHECKS[only]} if only else CHECKS
        self._monkeypatch.setattr(checks, "CHECKS", chosen)
        self._monkeypatch.setattr(sys, "argv", ["doctor", *options])
        with pytest.raises(SystemExit) as ended:
            command.main()
        printed = self._capsys.readouterr().out
        lines = [line for line in printed.splitlines() if line.startswith(("ok", "wrong", "mended"))]
        return SimpleNamespace(
            code=int(ended.value.code),
            wrong=[line for line in lines if line.startswith("wrong")],
            mended=[line for line in lines if line.startswith("mended")],
            printed=printed,
        )

    def short(self, said):
        return said.replace(f"{self.path}/", "")

    def files(self):
        """What every file holds, but those that belong to a tool, and locks."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file()
            and not {".git", ".venv", "__pycache__", "tmp"} & set(path.relative_to(self.path).parts)
            and not path.name.startswith((".mlflow", "mlflow.db"))
            and path.suffix not in (".lock", ".pid")
            and path.name != "lock"
        }

    def changed(self, before):
        """Names of the files that are other than before, gone, or new."""
        now = self.files()
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def assert_mends(self, subject, said, *changed):
        """One thing is wrong, of this subject and in these words; looking changes nothing; --fix changes these files,
        and then all is well. Returns what the second call printed."""
        before, said = self.files(), self.short(said)
        seen = self.look(only=subject)
        assert (seen.code, len(seen.wrong)) == (1, 1), seen.printed
        assert said in seen.wrong[0], seen.printed
        assert "--fix" in seen.wrong[0]
        assert "Next: python -m src.doctor --fix" in seen.printed
        assert self.changed(before) == []
        fixed = self.look("--fix", only=subject)
        assert (fixed.code, len(fixed.mended), fixed.wrong) == (0, 1, []), fixed.printed
        assert self.changed(before) == sorted(changed)
        after = self.look(only=subject)
        assert (after.code, after.wrong) == (0, []), after.printed
        assert "All is well. Next: dvc repro" in after.printed
        return fixed.printed

    def assert_only_told(self, subject, *said):
        """One thing is wrong that --fix leaves to the user, and leaves alone."""
        before = self.files()
        for options in ((), ("--fix",)):
            seen = self.look(*options, only=subject)
            assert (seen.code, len(seen.wrong)) == (1, 1), seen.printed
            assert [words for words in said if self.short(words) not in seen.wrong[0]] == [], seen.printed
        assert self.changed(before) == []


@pytest.fixture
def patient(finished, tmp_path, capsys, monkeypatch):
    """A finished project, copied, that is the working folder and the project's root."""
    path = tmp_path / "patient"
    shutil.copytree(finished.path, path, symlinks=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("DVC_ROOT", str(path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Patient(path, capsys, monkeypatch)
