"""Make a data directory of many recorded pairs quickly, by writing what `cogbuild adapt` itself would have left.

python benchmarks/make_store.py MODELS ADAPTERS FILES DIRECTORY [--linked] [--unsealed]

Models go through the functions of `models add` and pairs through the recorder of a run, so the rows are the ones that a run
leaves; only commits and file syncs are grouped. Each model has a file of its own and shares the others with all.
`tests/store/test_scale.py` compares such a store with one that was really built.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cogbuild import library
from cogbuild.active import active
from cogbuild.database import feed, models
from cogbuild.database.history import Attempt
from cogbuild.database.pairs import Artifact
from cogbuild.engine.recording import Made, Recorder, reasons_json
from cogbuild.engine.underway import new_attempt
from cogbuild.fingerprint.trees import Tree, read_tree
from cogbuild.objects import Objects
from cogbuild.planner import Judge
from cogbuild.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cogbuild.adapters import Adapter
    from cogbuild.cache import Cache
    from cogbuild.planner import Judged

#: Models whose rows share a transaction.
BATCH = 500

COG_YAML = "predict: predict.py:Predictor\n"
PREDICT = "class Predictor:\n    def predict(self, text: str) -> str:\n        return text\n"
SCRIPT = '#!/bin/sh\necho "s3://models/{name}/$COG_MODEL_ID"\n'


def make(
    root: Path, count: int, adapters: int, files: int, *, linked: bool = False, sealed: bool = True
) -> None:
    """Make a project at *root* with every pair recorded: *count* models of *files* files, and *adapters* adapters."""
    write_project(root, adapters)
    with Project(root / ".cogbuild", environ={}) as project:
        project.make()
        unsynced(project)
        if linked:
            for number in range(count):
                directory = live(root, number, files)
                library.link(project, directory, repo=f"user/{directory.name}")
        else:
            add_all(project, root / "upload", count, files, sealed=sealed)
        record_all(project)
        project.con.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def write_project(root: Path, adapters: int) -> None:
    """Write the settings and the adapters of a project."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"target-{number}" for number in range(adapters)]
    for name in names:
        write_adapter(root, name)
    (root / "cogbuild.yaml").write_text(json.dumps({"adapters": [f"adapters/{name}" for name in names]}))
    (root / "dodo.py").write_text("")
    (root / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")


def write_adapter(root: Path, name: str, script: str = SCRIPT) -> None:
    """Write an adapter that prints where it would have put its artifact."""
    directory = root / "adapters" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cog-adapter.yaml").write_text(json.dumps({"name": name, "script": "adapter.sh"}))
    at = directory / "adapter.sh"
    at.write_text(script.format(name=name))
    at.chmod(0o755)


# -- models -----------------------------------------------------------------------------------------------------------


def write_model(directory: Path, number: int, files: int) -> None:
    """Write a model of *files* files, of which one is its own."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cog.yaml").write_text(COG_YAML)
    (directory / "predict.py").write_text(PREDICT)
    (directory / "weights.bin").write_text(f"weights of model {number}\n")
    for other in range(files - 3):
        (directory / f"shared-{other:02}.txt").write_text(f"shared by all models: {other}\n")


def live(root: Path, number: int, files: int) -> Path:
    """Write a live directory and return it."""
    directory = root / "models" / f"model-{number:06}"
    write_model(directory, number, files)
    return directory


def unsynced(project: Project) -> None:
    """Have nobody wait for the disk: a benchmark's store need not survive a power cut."""
    project.con.execute("PRAGMA synchronous=OFF")
    project.cache._try(lambda cache: cache._sql("PRAGMA synchronous=OFF"))  # noqa: SLF001 - no setting of ours


class Unsynced(Objects):
    """Objects written without waiting for the disk."""

    def add_tree(self, source: Path, tree: Tree) -> None:
        """Store what is not there yet."""
        for entry in tree.entries:
            at = self.path(entry.value, executable=entry.kind == "x")
            if entry.kind in "fx" and not at.exists():
                at.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / entry.path, at)
                at.chmod(0o555 if entry.kind == "x" else 0o444)


class Grouped:
    """A project whose transactions are parts of one that is open."""

    def __init__(self, project: Project, con: Any) -> None:
        self.con = con
        self.data = project.data
        self.cache: Cache = project.cache
        self.hashed = project.hashed
        self.objects = Unsynced(project.data)
        self.database = self

    def write(self, work: Callable[[Any], Any], **_grouping: int) -> Any:
        """Run *work* in the open transaction."""
        return work(self.con)


def add_all(project: Project, upload: Path, count: int, files: int, *, sealed: bool) -> None:
    """Add *count* models as `models add` does, one directory written over and over."""
    write_model(upload, 0, files)
    tree = read_tree(upload).tree
    spec, wishes = library.declared(upload, tree)

    def add(con: Any, numbers: range) -> None:
        grouped: Any = Grouped(project, con)
        for number in numbers:
            (upload / "weights.bin").write_text(f"weights of model {number}\n")
            tree = read_tree(upload).tree
            grouped.objects.add_tree(upload, tree)
            library._record(  # noqa: SLF001 - all of `models add` but reading the same two files again
                grouped, tree, spec, wishes, repo=f"user/model-{number:06}", cpu_image=None, link=None
            )
            if sealed:
                grouped.objects.sealed(tree)

    for numbers in batches(count):
        project.database.write(lambda con, numbers=numbers: add(con, numbers))
    shutil.rmtree(upload)


# -- pairs ------------------------------------------------------------------------------------------------------------


class Unasked(Judge):
    """A judge that need not ask an empty cache a million times."""

    def restorable(self, key: str) -> None:
        """Return None."""


def record_all(project: Project) -> None:
    """Record what a run over every pair leaves, newest models first."""
    adapters = active(project)
    judge = Unasked(project, adapters)
    count = len(feed.eids_above(project.con, 0))
    project.database.write(lambda con: begin(con, adapters))

    def record(con: Any, eids: list[int]) -> None:
        recorder = Recorder(Grouped(project, con))  # type: ignore[arg-type]
        for entry in models.entries(con, eids=eids):
            for name in judge.wanted(entry):
                judged = judge.look(entry, name)
                artifact = Artifact("", f"s3://models/{name}/{entry.model}")
                recorder.made(Made(judged, [attempt(judged)], (artifact,), None, b""))

    ordered = models.newest_first(project.con, feed.eids_above(project.con, 0))
    for numbers in batches(count):
        eids = ordered[numbers.start : numbers.stop]
        project.database.write(lambda con, eids=eids: record(con, eids))


def begin(con: Any, adapters: dict[str, Adapter]) -> None:
    """Move the marks, as a plan does before its first pair runs."""
    last = feed.last_seq(con)
    for adapter in adapters.values():
        aid = feed.add_adapter(con, adapter.name)
        feed.set_scope(con, aid, context=adapter.context, mark=last, needs=adapter.needs)


def attempt(judged: Judged) -> Attempt:
    """Return an attempt as a small script's looks."""
    took = 0.004 + int.from_bytes(os.urandom(2), "big") / 1e7
    return Attempt(
        new_attempt(),
        judged.entry.eid,
        0,
        judged.key,
        "run",
        time.time(),
        took,
        took / 3,
        10_162_176,
        "built",
        "",
        reasons_json(judged.verdict.reasons),
    )


def batches(count: int) -> Iterator[range]:
    """Yield the numbers below *count*, in order and in groups."""
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def main() -> None:
    """Make the store that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=int)
    parser.add_argument("adapters", type=int)
    parser.add_argument("files", type=int, help="files of a model, at least 3")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--linked", action="store_true", help="live directories, as with `models add --link`")
    parser.add_argument(
        "--unsealed", action="store_true", help="without the sealed trees that a first run makes"
    )
    asked = parser.parse_args()
    began = time.perf_counter()
    make(
        asked.directory,
        asked.models,
        asked.adapters,
        asked.files,
        linked=asked.linked,
        sealed=not asked.unsealed,
    )
    took = time.perf_counter() - began
    print(f"{asked.models * asked.adapters} pairs in {took:.1f} s")


if __name__ == "__main__":
    main()
