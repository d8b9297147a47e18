"""train: data/prepared → the best model, its history and its MLflow run."""

from contextlib import nullcontext

from src import cli, params, paths
from src.tracking import courier


def main(profile: bool) -> None:
    settings = params.load()
    courier.start()
    from src import export, fingerprint, optimizers, progress, training
    from src.profile import Profile
    from src.tracking import artifacts, outbox, reuse, run

    idle = ", ".join(optimizers.unused(settings.train))
    cli.say(f"{settings.train.optimizer} with {settings.train.schedule} schedule does not use: {idle}")
    data = training.load_data()
    settings = training.sized(params.settled(settings, data.schema.task), data)
    mark = fingerprint.of(settings, data.schema)
    looking = Profile(settings.train) if profile else nullcontext()
    with looking as profiled, training.workplace(mark, settings.train, outbox.histories()) as folder:
        epochs = training.train(settings, data, folder, profiled.watch if profiled else None)
        with run.begin(settings, data.schema, mark, folder) as tracked:
            artifacts.log_data(tracked, data.schema)
            for _ in progress.show(epochs, settings.train.epochs, settings.train.monitor):
                pass
            report = export.export(settings, data, folder, mark)
            artifacts.log_training(tracked, settings, data.schema, folder, report)
            if profiled:
                tracked.log_artifacts(profiled.written(folder), "profile")
        tracked.write(folder / run.NOTE)
        tracked.write(paths.RUN)
        reuse.remember(tracked.key)
    cli.say(f"trained {settings.model.name}: best epoch {report['best_epoch']} of {report['epochs']}")


if __name__ == "__main__":
    cli.run(main, __doc__, profile="also write to reports/profile where the time of a step goes, and a trace of steps")
