import json
import subprocess
import sys
from pathlib import Path

import pytest

from src import files
from src.errors import InputError

ROOT = Path(__file__).parents[1]
COMMANDS = ["src.tune", "src.params_table", "stages.prepare", "stages.train", "stages.validate", "stages.evaluate"]


def python(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise InputError('wrong')", 2, "error: wrong\n"),
        ("raise RunError('failed')", 1, "error: failed\n"),
        ("raise KeyboardInterrupt", 130, "\ninterrupted. The same command goes on from the last checkpoint.\n"),
        (
            "os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
            143,
            "terminated. The same command goes on from the last checkpoint.\n",
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
