"""Is there anything to do at all? Asked first, before anything that takes time to import.

The answer rests on what the last full look at settings and adapters left (``remember``): which files, programs and
variables it read, and the context that each adapter had. Where all of these are as they were, every live directory is
as it was, every adapter's mark is at the end of the change feed and nothing is listed, there is nothing to do. Whatever
is not so, or can't be told by a stat, is the planner's to answer: this module knows "nothing to do" and "look closer".
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from cogbuild import __version__
from cogbuild.database import feed
from cogbuild.database.schema import FORMAT
from cogbuild.fingerprint import glance
from cogbuild.place import SETTINGS_FILE, SHARED_FILE, anybody_at_work, live_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["MEMO", "Standing", "closure", "found", "fresh_pairs", "platform", "pythons", "summary", "which"]

#: The name of the memo, and the number of its format.
MEMO = "standing:2"

#: What a Python on PATH is called; models of today ask for 3.7 and later.
_PYTHONS = ("python", "python3", *(f"python3.{minor}" for minor in range(6, 20)))

#: The adapter whose artifact is ``COG_CPU_IMAGE``.
IMAGE_ADAPTER = "docker-cpu"


def fresh_pairs(data: str, values: Mapping[str, str] | None = None) -> int | None:
    """Return how many pairs there are where nothing is to be done for any of them; None: look closer.

    *values* is the environment, the process's own where none is given.
    """
    database = os.path.join(data, "cog.db")
    if not os.path.isfile(database) or anybody_at_work(data):  # who was killed has to be cleared up after
        return None
    try:
        with contextlib.closing(sqlite3.connect(os.fsencode(database), isolation_level=None)) as con:
            if con.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                return None
            con.execute("BEGIN")  # one state of the database for all questions
            root = os.path.dirname(data.rstrip(os.sep))
            return _fresh_pairs(con, root, os.environ if values is None else values)
    except (sqlite3.Error, OSError, ValueError):
        return None  # whoever looks closer has words for it


def summary(fresh: int) -> str:
    """Return what a run says that had nothing to do."""
    return f"{fresh} fresh" if fresh else "no pairs"


def _fresh_pairs(con: sqlite3.Connection, root: str, values: Mapping[str, str]) -> int | None:
    known = feed.memo(con, MEMO)
    if known is None:
        return None
    standing = Standing(json.loads(known))
    needs = standing.needs()
    if not (feed.all_done(con, standing.contexts()) and standing.holds(con, root, values)):
        return None
    counts = feed.wishes(con)
    plain = feed.count_live(con) - sum(count for _, _, count in counts)
    return plain * len(needs) + sum(
        len(wanted(needs, json.loads(wishes) if wishes else None, image=image)) * count
        for wishes, image, count in counts
    )


class Standing:
    """What settings and adapters came to, and all that was read for it; a hint, kept as JSON."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def contexts(self) -> dict[str, str]:
        """Return the context of each active adapter."""
        return {name: context for name, (context, _) in self.facts["adapters"].items()}

    def needs(self) -> dict[str, list[str]]:
        """Return what each active adapter needs, needed ones first."""
        return {name: needs for name, (_, needs) in self.facts["adapters"].items()}

    def holds(self, con: sqlite3.Connection, root: str, values: Mapping[str, str]) -> bool:
        """Whether all that was read is as it was, for the project in *root* under the environment *values*."""
        facts = self.facts
        return (
            facts["root"] == root
            and facts["machine"] == platform()
            and facts["environ"] == environ(values, facts["environ"])
            and all(stat_of(path) == was for path, was in facts["files"].items())
            and all(which(name, facts["environ"]["PATH"]) == at for name, at in facts["programs"].items())
            and all(glance.same(path, bytes.fromhex(was)) for path, was in facts["directories"].items())
            and facts["pythons"] in (None, pythons(values))
            and self._links_hold(con)
        )

    def _links_hold(self, con: sqlite3.Connection) -> bool:
        declared = {}
        for path, repo, eid, by_settings, memo in con.execute(
            "SELECT path, repo, eid, declared, memo FROM links"
        ):
            if eid is None or memo is None or not glance.same(path, memo):
                return False
            if by_settings:
                declared[path] = repo
        return declared == live_directories(self.facts["root"], self.facts["sources"])


def compose(
    values: Mapping[str, str],
    *,
    root: str,
    programs: Mapping[str, str],
    variables: Iterable[str],
    directories: Mapping[str, bytes],
    sources: Iterable[tuple[str, str | None, Sequence[str]]],
    adapters: Mapping[str, tuple[str, Sequence[str]]],
    pythons: str | None,
) -> bytes | None:
    """Return the note for ``fresh_pairs``; None where something that was read is so young that it may still change.

    *values* is the environment, *programs* where each interpreter was found, *directories* the stat memo of each one
    that was read, *sources* the live directories as the settings name them, *adapters* (context, needs) by name, *pythons* what there were if they count.
    """
    files = [os.path.join(root, name) for name in (SETTINGS_FILE, SHARED_FILE)]
    stats = {path: stat_of(path) for path in [*files, *programs.values()]}
    young = time.time_ns() - glance.RACY_NS
    if any(was is not None and max(was[2:4]) >= young for was in stats.values()):
        return None
    facts = {
        "machine": platform(),
        "root": root,
        "environ": environ(values, ["PATH", *variables]),
        "files": stats,
        "programs": dict(programs),
        "directories": {path: memo.hex() for path, memo in directories.items()},
        "sources": [list(source) for source in sources],
        "adapters": dict(adapters),
        "pythons": pythons,
    }
    return json.dumps(facts, separators=(",", ":")).encode()


def platform() -> list[str]:
    """Return what of the machine and of the program itself counts."""
    system = os.uname()
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    return [__version__, sys.version, system.sysname, system.machine, libc or "other libc"]


def environ(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str | None]:
    """Return the variables *names* and those that are settings, None for what is not set."""
    named: dict[str, str | None] = {name: values.get(name) for name in names}
    return named | {
        name: value
        for name, value in values.items()
        if name.startswith("COGBUILD_") and name != "COGBUILD_DATA_DIR"
    }


def stat_of(path: str) -> list[int] | None:
    """Return what tells that a file is the same, None where there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return [info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def which(program: str, path: str | None) -> str | None:
    """Return the file that a program's name leads to, with every symlink followed."""
    place = found(program, path)
    return None if place is None else os.path.realpath(place)


def found(program: str, path: str | None) -> str | None:
    """Return where a program is, under the name that it is called by; as ``shutil.which`` finds it."""
    if os.path.dirname(program):
        places = [program]
    else:
        places = [
            os.path.join(place, program) for place in (os.defpath if path is None else path).split(os.pathsep)
        ]
    for place in places:
        if os.access(place, os.F_OK | os.X_OK) and not os.path.isdir(place):
            return place
    return None


def pythons(values: Mapping[str, str]) -> str:
    """Return what tells which Pythons can be found: the files behind their names on ``PATH``, and what uv has installed.

    A virtual environment adds none: what it leads to is the file that it was made of.
    """
    files = set()
    for place in dict.fromkeys((values.get("PATH") or os.defpath).split(os.pathsep)):
        for name in _PYTHONS:
            path = f"{place}/{name}"
            if os.access(path, os.X_OK):
                files.add(os.path.realpath(path))
    seen = [f"{path} {stat[1]} {stat[2]}" for path in files if (stat := stat_of(path)) is not None]
    shared = values.get("XDG_DATA_HOME") or os.path.join(values.get("HOME") or "", ".local/share")
    with contextlib.suppress(OSError):
        kept = os.listdir(values.get("UV_PYTHON_INSTALL_DIR") or os.path.join(shared, "uv/python"))
        seen += [name for name in kept if name.startswith("cpython-")]
    return "\n".join(sorted(seen))


def closure(order: Iterable[str], needs: Callable[[str], Sequence[str]], names: Iterable[str]) -> list[str]:
    """Return *names* and all that they need, in *order*."""
    wanted = set(names)
    queue = list(wanted)
    while queue:
        for needed in needs(queue.pop()):
            if needed not in wanted:
                wanted.add(needed)
                queue.append(needed)
    return [name for name in order if name in wanted]


def wanted(needs: Mapping[str, Sequence[str]], wishes: Sequence[str] | None, *, image: bool) -> list[str]:
    """Return the adapters that have a pair with a model: all, or the wished-for ones and what these need."""
    names = [name for name in needs if wishes is None or name in wishes]
    return [
        name for name in closure(needs, needs.__getitem__, names) if not (name == IMAGE_ADAPTER and image)
    ]
