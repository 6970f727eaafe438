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

from cli.config import config
from cli.deadletters import deadletters
from cli.demo import demo
from cli.exits import CONFIG, FAILED, INTERRUPTED, UNREACHABLE, Unreachable
from cli.init import init
from cli.journal import journal
from cli.quarantine import quarantine
from cli.services import deliver, flow, ingest
from cli.simulate import simulate
from cli.up import up
from cli.verify import verify
from telemetry.errors import ConfigError, Rejected, Transient, VitalaneError

LEVELS = ("debug", "info", "warning", "error")


def program_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("vitalane")
    except PackageNotFoundError:
        return "0 (not installed)"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(program_version(), prog_name="vitalane")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", envvar="VITALANE_LOG_LEVEL", show_default=True)
def program(log_level: str) -> None:
    """Telemetry of shipments and patients into alerts that somebody can account for.

    Secondary notification: no medical device, no primary alarm.
    """
    logging.basicConfig(stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: `eval "$(vitalane completion bash)"`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(program, {}, "vitalane", "_VITALANE_COMPLETE").source())


for _command in (init, config, ingest, flow, deliver, up, demo, simulate, journal, quarantine, deadletters, verify):
    program.add_command(_command)


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
        logging.getLogger(__name__).debug("cli.command_failed", exc_info=True)
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
