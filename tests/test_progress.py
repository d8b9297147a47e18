import errno
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src import progress
from src.loop import Epoch

ROOT = Path(__file__).parents[1]


def epochs(total, first=1):
    for number in range(first, total + 1):
        yield Epoch(
            number,
            0.1 / number,
            {"loss": 2.0 / number},
            {"loss": 3.0 / number, "accuracy": 0.5},
            1234.5,
            torch.zeros(1),
        )


@pytest.mark.parametrize("total", [1, 5, 20, 60, 1000])
def test_about_twenty_lines_where_there_is_no_terminal_the_first_and_the_last_among_them(capsys, total):
    shown = list(progress.show(epochs(total), total, "loss"))
    assert shown == list(epochs(total))
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith(f"epoch 1/{total}  train loss 2.0000  val loss 3.0000  lr 0.1  1,23")
    assert lines[-1].startswith(f"epoch {total}/{total}  ")
    assert min(total, 20) <= len(lines) <= 31
    assert not [line for line in lines if "\x1b" in line or "\r" in line]


def test_the_monitor_is_shown_beside_the_losses(capsys):
    list(progress.show(epochs(1), 1, "accuracy"))
    assert "val accuracy 0.5000" in capsys.readouterr().err


def test_each_epoch_is_passed_on_before_the_next_is_trained():
    trained = []

    def train():
        for epoch in epochs(3):
            trained.append(epoch.number)
            yield epoch

    for epoch in progress.show(train(), 3, "loss"):
        assert trained[-1] == epoch.number


def test_a_terminal_gets_a_bar():
    code = """if True:
        from tests.test_progress import epochs
        from src import progress
        print(len(list(progress.show(epochs(30), 30, "accuracy"))))
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 65536):
            drawn += part
    except OSError as error:
        if error.errno != errno.EIO:  # how Linux says that the other end is closed
            raise
    finally:
        os.close(ours)
    assert process.communicate(timeout=60)[0] == "30\n"
    text = drawn.decode()
    assert "\x1b[" in text  # drawn in place
    assert "30/30" in text
    assert "val accuracy 0.5000" in text
