"""python -m src.reuse: tell MLflow when DVC has restored an earlier result (make repro does it after dvc repro)."""

from src import cli


def main() -> None:
    from src import params
    from src.tracking import reuse

    name = reuse.note(params.load())
    if name:
        cli.say(f"run {name} is in use again, and is tagged with time and commit")


if __name__ == "__main__":
    cli.run(main, __doc__)
