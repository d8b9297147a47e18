"""Prints the params as the Markdown table that the README has: name, default, allowed, meaning."""

from typing import Any, Union, get_args, get_origin

from src import cli


def table() -> str:
    """One row a param."""
    from src.params import Params, fields

    defaults = Params().flat()
    rows = ["| param | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for key, field in fields():
        default = defaults.get(key, "see params.yaml" if key == "tune.space" else {})
        shown = "null" if default is None else str(default).replace("'", "")
        rows.append(f"| `{key}` | `{shown}` | {_allowed(field)} | {field.description} |")
    return "\n".join(rows)


def _allowed(field: Any) -> str:
    from pydantic import AfterValidator
    from pydantic.fields import FieldInfo

    from src.mistakes import DEVICES

    if get_origin(field.annotation) is Union:  # of names and something else, such as a number
        return " or ".join(_allowed(FieldInfo.from_annotation(kind)) for kind in get_args(field.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    parts = []
    for constraint in field.metadata:
        if isinstance(constraint, AfterValidator):
            parts.append(", ".join(constraint.func.args[0]))  # type: ignore[union-attr]
        parts += [f"{sign} {getattr(constraint, name)}" for name, sign in signs.items() if hasattr(constraint, name)]
        if getattr(constraint, "pattern", None):
            parts.append(DEVICES)
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str | int)]
    return ", ".join(parts + choices) or str(getattr(field.annotation, "__name__", field.annotation)).replace("|", "or")


def main() -> None:
    print(table())


if __name__ == "__main__":
    cli.run(main, __doc__)
