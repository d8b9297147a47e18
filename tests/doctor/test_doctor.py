"""python -m src.doctor: what it prints, how it ends, and that a check that fails takes nothing down with it."""

import sys

import pytest

from src.doctor import __main__ as command
from src.doctor import checks
from src.doctor.finding import ok, wrong

pytestmark = pytest.mark.pipeline


@pytest.fixture
def run(workspace, monkeypatch, capsys):
    """run(check, *options) → exit code and output of the doctor with this one check."""

    def examine(check, *options):
        monkeypatch.setattr(checks, "CHECKS", {"thing": check})
        monkeypatch.setattr(sys, "argv", ["doctor", *options])
        with pytest.raises(SystemExit) as ended:
            command.main()
        return int(ended.value.code), capsys.readouterr().out

    return examine


def test_a_project_that_is_well(patient):
    before = patient.files()
    seen = patient.look()
    assert (seen.code, seen.wrong) == (0, []), seen.printed
    lines = seen.printed.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * len(checks.CHECKS)
    assert lines[-1] == "All is well. Next: dvc repro"
    assert patient.changed(before) == []


def test_a_clone_in_which_nothing_has_run_is_well(new_project):
    project = new_project(store=False)
    printed = project.run("python", "-m", "src.doctor")
    assert "nothing is made yet" in printed
    assert "All is well" in printed
    assert project.run("git", "status", "--porcelain") == ""


def test_what_can_be_mended_is_only_with_fix(run):
    done = []

    def check(_):
        yield wrong("it is broken", "glues it", lambda: done.append(1) or "Glued")

    code, printed = run(check)
    assert (code, done) == (1, [])
    assert printed.splitlines() == [
        "wrong   thing        it is broken. --fix glues it",
        "1 thing is wrong; --fix mends 1. Next: python -m src.doctor --fix",
    ]
    code, printed = run(check, "--fix")
    assert (code, done) == (0, [1])
    assert printed.splitlines() == [
        "mended  thing        it is broken. Glued",
        "1 mended. All is well. Next: dvc repro",
    ]


def test_what_the_user_must_mend_is_told(run):
    code, printed = run(lambda _: iter([wrong("it is broken", "buy another")]), "--fix")
    assert code == 1
    assert printed.splitlines() == [
        "wrong   thing        it is broken. To mend it: buy another",
        "1 thing is wrong. Next: what the line marked wrong says",
    ]


def test_a_check_that_fails_is_a_finding_and_shows_no_password(run):
    def check(_):
        yield ok("so far so good")
        raise KeyError("postgresql://me:secret@host/db")

    code, printed = run(check)
    assert code == 1
    assert "this check itself failed, which is a bug: KeyError: 'postgresql://***@host/db'" in printed
    assert "ok      thing        so far so good" in printed


def test_mending_that_fails_is_still_wrong(run):
    code, printed = run(lambda _: iter([wrong("it is broken", "glues it", lambda: 1 / 0)]), "--fix")
    assert code == 1
    assert "it is broken. It could not be mended: ZeroDivisionError: division by zero" in printed


def test_on_a_terminal_it_shows_the_same(run, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    code, printed = run(lambda _: iter([wrong("it is [broken]", "buy another"), ok("fine")]))
    assert code == 1
    assert "it is [broken]. To mend it: buy another" in printed
    assert "fine" in printed
