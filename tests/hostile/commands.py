"""Commands as processes of their own, with the bytes that they say."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Sandbox

__all__ = ["Said", "cogbuild", "here", "peak"]


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Both, as text; fails where they are no text."""
        return (self.out + self.err).decode()


def cogbuild(box: Sandbox, *arguments: str | bytes, wrapper: tuple[str, ...] = ()) -> Said:
    """Run one command in the sandbox's site; whatever happens, it shows no traceback."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "cogbuild", *arguments],
        cwd=box.root / "site",
        env={**os.environ, **box.environ, "COLUMNS": "200"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert not any(line.startswith(b"Traceback") for line in lines), done.stderr.decode(errors="replace")
    return Said(done.returncode, done.stdout, done.stderr)


def here(box: Sandbox, *arguments: str) -> Said:
    """Run one command in this process, which is quicker."""
    from cogbuild.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    before, argv = os.getcwd(), sys.argv
    os.chdir(box.root / "site")
    sys.argv = ["cogbuild", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.chdir(before)
        sys.argv = argv
    assert "this is a bug" not in err.getvalue(), err.getvalue()
    return Said(
        code,
        out.getvalue().encode("utf-8", "surrogateescape"),
        err.getvalue().encode("utf-8", "surrogateescape"),
    )


#: A small process in between: a child begins with the memory of whoever started it.
_MEASURED = """
import os, sys
said = (os.POSIX_SPAWN_OPEN, 2, sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
words = [sys.executable, "-m", "cogbuild", *sys.argv[2:]]
pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=[said])
_, status, used = os.wait4(pid, 0)
print("peak", used.ru_maxrss >> 10, os.waitstatus_to_exitcode(status), file=sys.stderr)
"""


def peak(box: Sandbox, *words: str, code: int = 0, said: str = os.devnull) -> int:
    """Run a command that ends with *code*; return the memory in MB of its largest process. Its stderr goes to *said*."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, said, *words],
        cwd=box.root / "site",
        env={**os.environ, **box.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    megabytes, ended = done.stderr.rpartition(b"peak ")[2].split()
    assert int(ended) == code, ended
    return int(megabytes)
