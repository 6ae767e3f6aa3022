"""What the zipapp runs on a node: `launch` in the job script, `pilot` on each node.

Invariant (DESIGN.md section 4): all that will ever be needed is imported before anything is done,
and this program's own source is never read again: the file it came from may hang or vanish, and
then even a plain traceback would block.
"""

from __future__ import annotations

import linecache
import sys
from types import TracebackType
from typing import Optional


def _no_lines(*_: object, **__: object) -> list[str]:
    return []


def _no_check(*_: object, **__: object) -> None:
    return None


def _tell(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """A traceback of names and numbers, without a line of source."""
    words = [f"wspilot: {kind.__name__}: {error}"]
    while trace is not None:
        code = trace.tb_frame.f_code
        words.append(f"  {code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    print("\n".join(words), file=sys.stderr, flush=True)


def main(argv: Optional[list[str]] = None) -> int:
    """Run one command; its exit code."""
    linecache.getlines = linecache.updatecache = _no_lines
    linecache.checkcache = _no_check
    sys.excepthook = _tell
    from wspilot.node import commands

    return commands.run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
