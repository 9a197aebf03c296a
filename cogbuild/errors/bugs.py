"""What to say when cogbuild itself went wrong: a report file with the traceback, and one sentence."""

from __future__ import annotations

import os
import tempfile
import time
import traceback

from cogbuild.errors import CogbuildError

__all__ = ["Bug", "report_of"]


class Bug(CogbuildError):
    exit_code = 3
    fatal = True
    headline = "cogbuild itself failed: this is a bug"
    hint = "report it with the file {report}; what was reported done before is kept"


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
