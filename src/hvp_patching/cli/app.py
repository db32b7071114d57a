"""The commands, and what every failure of theirs comes to: one line on stderr, exit code 2."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hvp_patching.cli.commands.jets import jets
from hvp_patching.cli.commands.models import models
from hvp_patching.cli.commands.patch import patch
from hvp_patching.cli.commands.screen import screen
from hvp_patching.cli.commands.verify import verify
from hvp_patching.cli.examples import EXAMPLES
from hvp_patching.failures import one_line, out_of_memory

PROGRAM = "hvp-patching"
BAD, STOPPED = 2, 130  # exit codes: bad input or a failure; Ctrl-C
FULL = (errno.ENOSPC, errno.EDQUOT)


class Commands(TyperGroup):
    """The group of commands, whose failures are one line unless --debug is given."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; raises SystemExit with its exit code, and what failed under --debug."""
        given = args[0] if args else options.get("args")
        given = list(sys.argv[1:] if given is None else given) or ["--help"]
        asked = [one for one in given if one != "--debug"]
        _replace_unknown_signs()
        try:
            code = super().main(asked, PROGRAM, standalone_mode=False)
        except Exception as error:
            if len(asked) < len(given):
                raise
            _say("stopped" if isinstance(error, typer.Abort) else explain(error))
            raise SystemExit(BAD) from None
        if code == STOPPED:  # what Ctrl-C comes to
            _say("stopped")
        raise SystemExit(code if isinstance(code, int) else 0)


def _replace_unknown_signs() -> None:
    """A terminal that lacks a sign gets a question mark in its place."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {line}", file=sys.stderr)


def explain(error: Exception) -> str:
    """A failure in one line: what happened and what to do."""
    formatted = getattr(error, "format_message", None)  # of a wrong use of the command line
    if formatted is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path.removeprefix(PROGRAM).strip() if context else ""
        hint = " ".join(filter(None, (PROGRAM, command, "--help")))
        return f"{' '.join(formatted().split()).rstrip('.')}; see {hint}"
    if isinstance(error, ValueError):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno in FULL:
        return "the disk is full; free some space and run the same command again"
    if out_of_memory(error):
        return "out of memory; use a smaller model, float32, or fewer components"
    return f"{type(error).__name__}: {one_line(error)} (--debug shows where)"


app = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from hvp_patching import __version__

        print(f"{PROGRAM} {__version__}")
        raise typer.Exit()


Version = Annotated[
    bool,
    typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of a failure, with any command.")
]


@app.callback(epilog=EXAMPLES["screen"])
def root(
    version: Version = False,
    debug: Debug = False,
) -> None:
    """Which attribution scores to trust: exact and estimated effects of a model's components."""


for command in (screen, patch, jets, models, verify):
    app.command(epilog=EXAMPLES[command.__name__], no_args_is_help=False)(command)


def main() -> None:
    """The console script."""
    app()
