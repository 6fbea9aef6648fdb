"""The entry point: words in, exit status out."""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from .._support import ServertestError, UsageError
from . import _check, _faults, _kinds, _proxy, _record, _serve, _show, _swarm
from ._status import BROKEN, INTERRUPTED, UNHEARD, USAGE

__all__ = ("main",)

_COMMANDS = (_check, _serve, _proxy, _record, _show, _swarm, _faults, _kinds)

_EPILOG = """\
exit status:
  0    all is well
  1    something was found: the tool works, and says what is wrong with what it looked at
  2    it was asked for something that cannot be; the message says what to do
  3    servertest itself broke
  130  interrupted
  141  whoever read what it prints has gone
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words after the program's name; those of this process if not given.

    Returns:
        The exit status, as `servertest --help` explains it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Terminals that know no box drawing get question marks, and no traceback.
            stream.reconfigure(errors="replace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        if not _nobody_reads():
            return _broken()
        return UNHEARD
    except UsageError as error:
        print(f"servertest: {error}", file=sys.stderr)
        return USAGE
    except ServertestError as error:
        print(f"servertest: {type(error).__name__}: {error}", file=sys.stderr)
        return USAGE
    except Exception:  # noqa: BLE001 - the border: a breakage of ours must not look like a finding
        return _broken()


def _broken() -> int:
    traceback.print_exc()
    print("servertest: this is a breakage of servertest, not a finding; please report it.", file=sys.stderr)
    return BROKEN


def _nobody_reads() -> bool:
    """Whether it is what is printed that nobody takes, as after `| head`; then nothing more is tried, at the interpreter's end either."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False  # it is no file
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, 0)
        if not poll.poll(0):
            return False
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="servertest",
        description="Test socket servers, and the clients that talk to them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"servertest {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser
