import json
import subprocess
import sys
from pathlib import Path

import pytest

from src import cli, files
from src.errors import InputError

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for folder in ("src", "stages")
    for path in (ROOT / folder).rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
)


def python(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


STOPPED = """
import os, signal
from src import cli
def main():
    stopping = cli.Stopping()
    try:
        with stopping:
            os.kill(os.getpid(), signal.SIGTERM)
            print("went on to the end of the step")
            stopping.now()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("closed")
cli.run(main, "")
"""


def test_a_second_signal_does_not_cut_short_how_a_run_is_closed():
    done = python("-c", STOPPED)
    assert (done.returncode, done.stdout) == (143, "went on to the end of the step\nclosed\n"), done.stderr
    assert done.stderr == "terminated. The same command goes on from the last checkpoint or trial.\n"


LOST = """
import os, signal, time
from src import cli
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def main():
    Last()
    time.sleep(60)
cli.run(main, "")
"""


def test_an_end_that_a_finalizer_swallows_comes_again():
    done = python("-c", LOST)
    assert done.returncode == 143, done.stderr
    assert done.stderr == "terminated. The same command goes on from the last checkpoint or trial.\n"


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise InputError('wrong')", 2, "error: wrong\n"),
        ("raise RunError('failed')", 1, "error: failed\n"),
        (
            "raise KeyboardInterrupt",
            130,
            "\ninterrupted. The same command goes on from the last checkpoint or trial.\n",
        ),
        (
            "os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
            143,
            "terminated. The same command goes on from the last checkpoint or trial.\n",
        ),
    ],
)
def test_exit_codes_and_messages(statement, code, said):
    text = f"""if True:
        import os, signal
        from src import cli
        from src.errors import InputError, RunError
        def main():
            {statement}
        cli.run(main)
    """
    done = python("-c", text)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_bug_of_ours_keeps_its_traceback():
    done = python("-c", "from src import cli; cli.run(lambda: 1 / 0)")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_garbage_is_looked_for_after_the_imports_and_not_at_the_end():
    text = """if True:
        import atexit, gc
        from src import cli
        usual = gc.get_threshold()
        def main():
            before = gc.get_stats()
            objects = [[] for _ in range(400_000)]
            assert gc.get_stats() == before
            objects += [[] for _ in range(200_000)]
            print(gc.get_threshold() == usual, gc.get_freeze_count() > 500_000)
            objects.clear()
            atexit.register(lambda: print(len(gc.get_objects()) < 100))
        cli.run(main)
    """
    assert python("-c", text).stdout.split() == ["True"] * 3


def test_a_second_sigterm_does_not_cut_the_closing_short():
    text = """if True:
        import signal
        from src import cli
        def main():
            try:
                print("ready", flush=True)
                signal.pause()
            finally:
                print("closing", flush=True)
                input()
                print("closed", flush=True)
        cli.run(main)
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, text=True, **pipes)
    for line in ("ready\n", "closing\n"):
        assert process.stdout.readline() == line
        process.terminate()
    assert process.communicate("\n", timeout=60)[0] == "closed\n"
    assert process.returncode == 143


def test_the_commands_are_found():
    assert {"src.tune", "src.params_table", "stages.prepare", "stages.train"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_comes_before_anything_heavy_is_imported(command):
    done = python("-X", "importtime", "-m", command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage:")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"torch", "mlflow", "optuna", "pandas", "sklearn", "dvc"} == set()


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_bytes(path, "text, not bytes")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [name.name for name in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is missing"), (b"{", "not valid JSON"), (b"\xff", "not valid")]
)
def test_json_that_cannot_be_read_is_bad_input(tmp_path, content, message):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        files.read_json(path)


def test_how_far_a_long_work_is_gets_said(monkeypatch, capsys):
    assert [*cli.counted([3, 3], "reading", int)] == [3, 3]
    assert capsys.readouterr().err == ""  # nobody had to wait
    monkeypatch.setattr(cli, "EVERY", -1.0)
    assert [*cli.counted([1000, 1000], "reading", int)] == [1000, 1000]
    assert [*cli.counted([1000, 1000], "writing", int, total=1500)] == [1000, 1000]
    assert capsys.readouterr().err.splitlines() == [
        "reading: 1,000 rows",
        "reading: 2,000 rows",
        "writing: 1,000 of 1,500 rows",
        "writing: 1,500 of 1,500 rows",
    ]
