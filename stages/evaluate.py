"""evaluate: the best model on the test split, once."""

from src import cli, params, paths
from src.tracking import courier


def main() -> None:
    settings = params.load()
    courier.start()
    from src import evaluation, files, model_file, plots
    from src.data import prepared
    from src.tracking import reuse

    with reuse.rejoined(settings) as tracked:
        trained = model_file.load()
        settings = params.settled(settings, trained.schema.task)
        result = evaluation.Result(settings, trained, prepared.load("test", trained.schema))
        files.write_json(paths.REPORTS / "evaluate.json", result.metrics)
        tables = result.write_tables(paths.TABLES)
        pictures = plots.write(paths.PICTURES / "evaluate", result.figures())
        tracked.log_metrics(result.metrics, "test/")
        tracked.log_artifacts([*tables, *pictures], "evaluate")
    cli.say(f"test: {evaluation.summary(result.metrics)}\nrun: {tracked.name}\nNext: make ui, make tune")


if __name__ == "__main__":
    cli.run(main, __doc__)
