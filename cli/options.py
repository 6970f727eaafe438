"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from documents import parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationType(click.ParamType[int]):
    """`60s`, `10 min`: milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def config_option(command: Command) -> Command:
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("vitalane.yaml"),
        show_default=True,
        envvar="VITALANE_CONFIG",
        help="The configuration.",
    )(command)
