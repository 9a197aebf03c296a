"""What to say when cogbuild itself went wrong: a report file with the traceback, and one sentence."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from cogbuild.errors import CogbuildError
from cogbuild.errors.state import DatabaseBroken, disk_error

__all__ = ["Bug", "error_of", "report_of"]


class Bug(CogbuildError):
    exit_code = 3
    fatal = True
    headline = "cogbuild itself failed: this is a bug"
    hint = "report it with the file {report}; what was reported done before is kept"


def error_of(trouble: Exception, data: str | os.PathLike[str]) -> CogbuildError:
    """Return what is to be said of an exception that nobody expected: the disk's fault, or a bug with its report.

    *data* is the directory in which cogbuild was at work.
    """
    if isinstance(trouble, OSError):
        named = trouble.filename if isinstance(trouble.filename, str) else None
        inside = named is not None and Path(named).is_relative_to(data)
        if inside or trouble.errno not in (
            errno.EACCES,
            errno.EPERM,
        ):  # which else is about somebody else's files
            error = disk_error(trouble, named if named is not None and inside else data)
            if error is not None:
                return error
    database = os.path.join(data, "cog.db")
    if _damaged(trouble):
        return DatabaseBroken(database=database, reason=str(trouble))
    if unsound := _unsound(database):  # what comes out of a damaged page can trip up anything
        return DatabaseBroken(database=database, reason=unsound)
    return report_of(trouble, os.path.join(data, "logs"))


def _damaged(trouble: Exception) -> bool:
    """Whether SQLite found a database file damaged while it read."""
    sqlite3 = sys.modules.get("sqlite3")  # whoever raised it has imported it
    return (
        sqlite3 is not None
        and isinstance(trouble, sqlite3.DatabaseError)
        and any(
            word in str(trouble)
            for word in ("malformed", "not a database", "no such table", "no such column")
        )
    )


def _unsound(database: str) -> str | None:
    """Return the first thing that SQLite has against a database, None where it is sound or not there."""
    import sqlite3

    if not os.path.isfile(database):
        return None
    con = sqlite3.connect(os.fsencode(database))
    try:
        said = [line for (text,) in con.execute("PRAGMA quick_check(1)") for line in text.splitlines()]
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as trouble:
        return str(trouble)
    finally:
        con.close()
    return next((line for line in said if line != "ok" and not line.startswith("***")), None)


def report_of(trouble: BaseException, directory: str | os.PathLike[str] | None = None) -> Bug:
    """Write the traceback of *trouble* to a file below *directory* (else the temporary directory) and return the error."""
    text = "".join(traceback.format_exception(trouble))
    name = f"cogbuild-bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for place in (directory, tempfile.gettempdir()):
        if place is None:
            continue
        path = os.path.join(place, name)
        try:
            with open(path, "w", encoding="utf-8") as report:
                report.write(text)
        except OSError:
            continue
        return Bug(what=f"{type(trouble).__name__}: {trouble}", report=os.path.relpath(path))
    return Bug(what=text, report="above")
