"""train: data/prepared → the best model, its history and its MLflow run."""

from src import cli, params, paths


def main() -> None:
    settings = params.load()
    from src import export, fingerprint, optimizers, progress, training
    from src.tracking import artifacts, run

    idle = ", ".join(optimizers.unused(settings.train))
    cli.say(f"{settings.train.optimizer} with {settings.train.schedule} schedule does not use: {idle}")
    data = training.load_data()
    settings = params.settled(settings, data.schema.task)
    mark = fingerprint.of(settings, data.schema)
    with training.workplace(mark, settings.train) as folder:
        epochs = training.train(settings, data, folder)
        note = folder / "run.json"
        with run.begin(settings, data.schema, mark, note) as tracked, tracked.following(folder):
            tracked.log_params(settings.flat())
            artifacts.log_data(tracked, data.schema)
            for _ in progress.show(epochs, settings.train.epochs, settings.train.monitor):
                pass
            report = export.export(settings, data, folder, mark)
            tracked.write(paths.RUN)
            artifacts.log_training(tracked, settings, data.schema, folder, report)
    cli.say(f"trained {settings.model.name}: best epoch {report['best_epoch']} of {report['epochs']}")


if __name__ == "__main__":
    cli.run(main, __doc__)
