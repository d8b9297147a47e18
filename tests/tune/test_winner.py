"""What becomes of the best trial."""

import subprocess
import sys

from src.tune import winner


def test_the_command_trains_with_the_values_and_any_shell_reads_it_as_it_is():
    values = {"train.lr": 0.0123, "train.optimizer": "adamw", "train.betas": [0.9, 0.99], "train.cuda_graph": True}
    line = winner.command(values)
    assert line.startswith("dvc exp run -S train.lr=0.0123 -S train.optimizer=adamw -S ")
    print_words = f"{sys.executable} -c 'import sys; print(sys.argv[1:])' {line}"
    words = subprocess.run(print_words, shell=True, capture_output=True, text=True, check=True).stdout
    assert "'train.betas=[0.9, 0.99]', '-S', 'train.cuda_graph=true'" in words
