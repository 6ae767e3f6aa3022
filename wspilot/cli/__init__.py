"""The command line: `main` parses, runs one verb, prints one document or one table, and exits.

Exit codes are `errors.Code` (PROTOCOLS.md section 5). Nothing heavy is imported before a verb needs
it: `wspilot list` loads neither asyncio nor textual.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import TextIO

from wspilot.cli.parse import Args, parse
from wspilot.errors import WspilotError
from wspilot.text import clean


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code; never raises for a user's mistake."""
    words = sys.argv[1:] if argv is None else argv
    try:
        try:
            return _run(words)
        except WspilotError as error:
            return _fail(error, "--json" in words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _hush(sys.stdout)
        return 1
    except OSError as error:  # a home that cannot be made, a full disk under stdout
        with contextlib.suppress(OSError):  # a terminal that was closed hears nothing
            print(f"wspilot: {clean(str(error), 1000)}", file=sys.stderr)
        _hush(sys.stdout)
        return 1
    finally:
        _hush(sys.stderr)


def _hush(stream: TextIO) -> None:
    """What could not be written is not tried again at exit: Python would make that code 120."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(words: list[str]) -> int:
    args = parse(words)
    from wspilot.cli.verbs import run

    code = run(args)
    sys.stdout.flush()
    return code


def _fail(error: WspilotError, as_json: bool) -> int:
    code = int(error.code)
    print(f"wspilot: {clean(error.message, 4000, lines=True)}", file=sys.stderr)
    if error.hint:
        print(f"  {clean(error.hint, 1000)}", file=sys.stderr)
    if as_json:
        doc = {"code": code, "message": error.message, "hint": error.hint}
        print(json.dumps({"schema": 1, "error": doc}), flush=True)
    return code


__all__ = ["Args", "main"]
