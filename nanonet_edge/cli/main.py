"""The command `nanonet-edge`: registers the commands and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nanonet_edge import __version__
from nanonet_edge.cli.bench import bench
from nanonet_edge.cli.blame import blame
from nanonet_edge.cli.bundle import bundle
from nanonet_edge.cli.compare import compare
from nanonet_edge.cli.data import data
from nanonet_edge.cli.devices import devices
from nanonet_edge.cli.emulate import emulate
from nanonet_edge.cli.evaluate import evaluate
from nanonet_edge.cli.export import export
from nanonet_edge.cli.inspect import inspect
from nanonet_edge.cli.paper_table import paper_table
from nanonet_edge.cli.phantom import phantom
from nanonet_edge.cli.predict import predict
from nanonet_edge.cli.runtimes import runtimes
from nanonet_edge.cli.train import train
from nanonet_edge.cli.verify import verify
from nanonet_edge.cli.weights import weights
from nanonet_edge.errors import EXIT_INPUT, NanonetEdgeError

PROGRAM = "nanonet-edge"
DEBUG_VARIABLE = "NANONET_EDGE_DEBUG"

#: Not our mistake and not the user's: beyond the codes of nanonet_edge.errors.
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

_EPILOG = f"""\b
Exit codes:
  0    done, and passed
  1    done, but the verdict failed (verify) or nothing satisfies (compare)
  2    wrong use, or an extra that is not installed
  3    bad input, or a file that cannot be read or written
  4    device unreachable
  {EXIT_INTERNAL}   internal error: please report it
  {EXIT_INTERRUPTED}  interrupted

\b
Data goes to stdout, talk to stderr. Set {DEBUG_VARIABLE}=1 to see tracebacks."""


class CommandGroup(TyperGroup):
    """The group of commands, with one place where every error becomes a line and a code."""

    # typer names the type of `ctx` in a private module only.
    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for; every failure leaves as `typer.Exit`."""
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort, and it reports
            raise typer.Exit(_report(error)) from None


app = typer.Typer(
    name=PROGRAM,
    cls=CommandGroup,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    # Plain help and plain usage errors: the rich ones would import rich for --help.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Export a trained NanoNet for edge devices, check its masks, measure its speed, choose."""


for _command in (
    train,
    evaluate,
    export,
    verify,
    blame,
    bench,
    bundle,
    compare,
    inspect,
    predict,
    runtimes,
    phantom,
    paper_table,
):
    app.command(_command.__name__.replace("_", "-"))(_command)
app.add_typer(data, name="data")
app.add_typer(devices, name="devices")
app.add_typer(emulate, name="emulate")
app.add_typer(weights, name="weights")


def _report(error: BaseException) -> int:
    """Say on stderr what went wrong, in one line, and give the exit code for it."""
    if isinstance(error, BrokenPipeError):
        # The reader has gone: Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(error, NanonetEdgeError):
        _say(f"error: {_one_line(str(error))}")
        return error.exit_code
    if isinstance(error, OSError):
        _say(f"error: {_describe_os_error(error)}")
        return EXIT_INPUT
    message = f"{type(error).__name__}: {_one_line(str(error))}"
    _say(f"internal error: {message} (set {DEBUG_VARIABLE}=1 for the traceback)")
    return EXIT_INTERNAL


def _describe_os_error(error: OSError) -> str:
    reason = error.strerror or _one_line(str(error)) or type(error).__name__
    names = [
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
    ]
    return f"{' -> '.join(names)}: {reason}" if names else reason


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line with this process's arguments.

    Raises:
        SystemExit: always; ``nanonet-edge --help`` lists the codes.
    """
    app(prog_name=PROGRAM)
