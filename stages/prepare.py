"""prepare: raw rows → data/prepared (three splits and a schema)."""

from src import cli, params


def main() -> None:
    settings = params.load()
    from src.data.prepare import prepare

    schema = prepare(settings)
    rows = ", ".join(f"{count} {name}" for name, count in schema.rows.items())
    gone = "".join(f"; {count} dropped ({reason})" for reason, count in schema.dropped.items() if count)
    cli.say(f"prepared {schema.title}: {rows}{gone}; one input has shape {list(schema.shape)}")


if __name__ == "__main__":
    cli.run(main, __doc__)
