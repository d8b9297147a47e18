"""validate: the best model on the validation split, and the gate before the test split."""

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
        result = evaluation.Result(settings, trained, prepared.load("val", trained.schema))
        files.write_json(paths.REPORTS / "validate.json", result.metrics)
        pictures = plots.write(paths.PICTURES / "validate", result.figures())
        tracked.log_metrics(result.metrics, "best_val/")
        tracked.log_artifacts(pictures, "validate")
        evaluation.check_minimum(result.metrics, settings.validate_.minimum)
    cli.say(f"validation: {evaluation.summary(result.metrics)}")


if __name__ == "__main__":
    cli.run(main, __doc__)
