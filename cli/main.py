"""The program: `vitalane COMMAND`. Errors that a person is meant to read become one sentence and an exit code here, and nowhere else.

0 it worked; 1 it failed, or something does not balance; 2 the command or the configuration is wrong; 3 a service could not be reached or
started.
"""

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import click

from cli.exits import CONFIG, FAILED, INTERRUPTED, UNREACHABLE, Unreachable
from cli.lazy import LazyGroup
from cli.supervise import SUPERVISOR_PID
from telemetry.errors import ConfigError, Rejected, Transient, VitalaneError

LEVELS = ("debug", "info", "warning", "error")

COMMANDS = {
    "init": "cli.init",
    "demo": "cli.demo",
    "up": "cli.up",
    "ingest": "cli.services",
    "flow": "cli.services",
    "deliver": "cli.services",
    "config": "cli.config",
    "verify": "cli.verify",
    "journal": "cli.journal",
    "quarantine": "cli.quarantine",
    "decode": "cli.decode",
    "devices": "cli.devices",
    "deadletters": "cli.deadletters",
    "rules": "cli.rules",
    "backtest": "cli.backtest",
    "sweep": "cli.sweep",
    "burden": "cli.burden",
    "simulate": "cli.simulate",
    "asyncapi": "cli.asyncapi",
    "deploy": "cli.deploy",
    "score": "cli.score",
}


def program_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("vitalane")
    except PackageNotFoundError:
        return "0 (not installed)"


@click.group(cls=LazyGroup, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(program_version(), prog_name="vitalane")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", envvar="VITALANE_LOG_LEVEL", show_default=True)
def program(log_level: str) -> None:
    """Telemetry of shipments and patients into alerts that somebody can account for.

    Secondary notification: no medical device, no primary alarm.
    """
    os.umask(0o077)  # what this program writes is about patients: it is for its own user's eyes
    logging.basicConfig(stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: `eval "$(vitalane completion bash)"`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(program, {}, "vitalane", "_VITALANE_COMPLETE").source())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = program.main(args=None if arguments is None else list(arguments), prog_name="vitalane", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        error.show()
        return CONFIG
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever reads our output has enough of it
        return 0
    except ConfigError as error:
        _say(*(str(problem) for problem in error.problems))
        return CONFIG
    except (Transient, Rejected, Unreachable) as error:
        _say(str(error))
        return UNREACHABLE
    except VitalaneError as error:
        _say(str(error))
        return FAILED
    except Exception as error:
        level = logging.ERROR if SUPERVISOR_PID in os.environ else logging.DEBUG  # a supervised service has a log, a person has a sentence
        logging.getLogger(__name__).log(level, "cli.command_failed", exc_info=True)
        _say(f"this is a defect of the program: {type(error).__name__}: {error} (`vitalane --log-level debug` shows where)")
        return FAILED
    return code if isinstance(code, int) else 0


def _say(*sentences: str) -> None:
    for sentence in sentences:
        click.echo(f"vitalane: {sentence}", err=True)


def main() -> NoReturn:
    sys.exit(run())


if __name__ == "__main__":
    main()
