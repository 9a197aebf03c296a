"""Where a run writes: an output directory, a list of artifacts; and beside them a note that says whose run it is.

Making and removing directories costs more than all the rest of a short run, so what a run left as it found it serves
the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.process.tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Note", "Places", "Shelf", "notes_in"]

_PREFIX = "run-"
_NOTE = ".json"
_LARGEST_NOTE = 1 << 20
# What changed this long ago has another time than what changes now, on every file system.
_RACY_NS = 100_000_000


class Note(NamedTuple):
    """Whose a run is, as whoever finds it reads it: also after a crash."""

    id: str  # of the attempt
    eid: int
    adapter: str
    key: str | None
    kind: str  # as in Attempt
    started: float
    reasons: str  # as in Attempt


class Places:
    """The directories of one run at a time, as the adapter sees them."""

    def __init__(self, transient: Path, number: int) -> None:
        self.transient = (
            transient  # everything below it vanishes in the end: workspaces and what is beside them
        )
        self.run = transient / f"{_PREFIX}{number:x}"
        self.output = self.run / "out"
        self.list_file = self.run / "artifacts.jsonl"
        self.fidelity_file = self.run / "fidelity.jsonl"  # made by who writes it
        # Not below `run`, where the adapter may write.
        self._note = os.open(f"{self.run}{_NOTE}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.mkdir(self.run)
        os.mkdir(self.output)
        self.list_file.touch()
        self._as_made = self._look()
        self._stats: list[tuple[int, ...]] | None = None  # when they were last found as made
        #: The run that has ended left nothing here; known once ``untouched`` was asked.
        self.empty = False

    def begun(self, note: Note) -> None:
        """Write down whose the next run is."""
        self.empty = False
        # What an older, longer note leaves behind the end of the line is not read.
        os.pwrite(self._note, json.dumps(note).encode() + b"\n", 0)

    def untouched(self) -> bool:
        """Whether nothing was made here, and nothing replaced, that the next run could find."""
        try:
            stats = self._stat()
            # Every change moves a ctime, which nobody can set; but one that follows at once may leave it as it was.
            if stats != self._stats:
                self._stats = None
                self.empty = self._look() == self._as_made
                if self.empty and time.time_ns() - max(row[-1] for row in stats) > _RACY_NS:
                    self._stats = stats
            else:
                self.empty = True
        except OSError:
            self.empty = False
        return self.empty

    def _stat(self) -> list[tuple[int, ...]]:
        looks = map(os.lstat, (self.run, self.output, self.list_file))
        return [(info.st_ino, info.st_mode, info.st_size, info.st_ctime_ns) for info in looks]

    def _look(self) -> tuple[object, ...]:
        listed = os.lstat(self.list_file)
        return (
            sorted(os.listdir(self.run)),
            os.listdir(self.output),
            _identity(os.lstat(self.run)),
            _identity(os.lstat(self.output)),
            _identity(listed),
            listed.st_size,
        )

    def remove(self) -> None:
        """Remove it all."""
        os.close(self._note)
        remove_tree(self.run)
        remove_tree(f"{self.run}{_NOTE}")


def _identity(info: os.stat_result) -> tuple[int, ...]:
    # A further name of the list of artifacts would let one run write into the next one's.
    names = 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink
    return info.st_dev, info.st_ino, info.st_mode, info.st_uid, info.st_gid, names


class Shelf:
    """The places of all runs of one process, in its own directory *transient*."""

    def __init__(self, transient: Path) -> None:
        self._transient = transient
        self._spare: list[Places] = []
        self._count = 0
        self._guard = threading.Lock()

    def take(self, note: Note) -> Places:
        """Return empty places for the run that *note* tells of."""
        with self._guard:
            places = self._spare.pop() if self._spare else None
            if places is None:
                self._count += 1
                number = self._count
        places = places or Places(self._transient, number)
        places.begun(note)
        return places

    def give_back(self, places: Places) -> None:
        """Keep places for another run where the last one wrote nothing there, else remove them."""
        if places.empty or places.untouched():
            with self._guard:
                self._spare.append(places)
        else:
            places.remove()

    def close(self) -> None:
        """Remove what is kept."""
        with self._guard:
            spare, self._spare = self._spare, []
        for places in spare:
            places.remove()


def _note_files(work: str | os.PathLike[str]) -> Iterator[Path]:
    # Not by a pattern: that gives up where a directory goes between being listed and being looked into.
    with contextlib.suppress(FileNotFoundError):
        for directory in list(os.scandir(work)):
            if not directory.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(directory):
                    if name.startswith(_PREFIX) and name.endswith(_NOTE):
                        yield Path(directory, name)


def notes_in(work: str | os.PathLike[str]) -> Iterator[tuple[Path, Note]]:
    """Yield the notes in every process's directory below *work*, with that directory.

    Those of runs that have ended, or whose process has, are among them.
    """
    for path in sorted(_note_files(work)):
        try:
            with path.open("rb") as file:
                yield path.parent, Note(*json.loads(file.readline(_LARGEST_NOTE)))
        except (OSError, ValueError, TypeError):
            continue  # it has just gone, or was killed before it was written, so before anything ran
