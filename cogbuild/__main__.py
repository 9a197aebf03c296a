"""The ``cogbuild`` program, also as ``python -m cogbuild``: begins and ends quickly, the rest is in ``cogbuild.cli``."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["console"]


def console() -> None:
    """Run the command line as a process of its own."""
    # What is imported stays until the end: no collection has to walk over it.
    gc.disable()
    from cogbuild.cli import main

    gc.freeze()
    gc.enable()
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End the process without taking it apart object by object, which takes as long as many a command; else return."""
    import atexit
    import threading

    # Threads that are to be waited for, a profiler or a debugger: these want the long way.
    if threading.active_count() > 1 or sys.gettrace() is not None or sys.getprofile() is not None:
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - what has registered itself is run, as always
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


if __name__ == "__main__":
    console()
