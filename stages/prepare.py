"""prepare: raw rows → data/prepared (three splits and a schema)."""

from src import cli, params, paths


def main() -> None:
    settings = params.load()
    from src.data import report
    from src.data.prepare import prepare

    schema = prepare(settings)
    for line in report.write(schema):
        if line not in schema.notes:  # those are told
            cli.say(line)
    rows = ", ".join(f"{count} {name}" for name, count in schema.rows.items())
    gone = "".join(f"; {count} dropped ({reason})" for reason, count in schema.dropped.items() if count)
    cli.say(f"prepared {schema.title}: {rows}{gone}; one input has shape {list(schema.shape)}")
    cli.say(f"report: {paths.REPORTS / 'data.html'}")


if __name__ == "__main__":
    cli.run(main, __doc__)
