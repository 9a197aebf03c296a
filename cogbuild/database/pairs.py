"""Outcomes, pins and lost artifacts: functions over an open connection."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cogbuild.database.feed import adapter_id, add_pending
from cogbuild.database.packing import (
    attempt_bytes,
    attempt_name,
    name_number,
    numbers,
    pack_manifests,
    unpack_manifests,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Artifact", "Fidelity", "Outcome"]


class Fidelity(NamedTuple):
    """How far an artifact is from its model, as the adapter or its test measured it; it counts for nothing."""

    runtime: str  # what ran the artifact, with its version
    absolute: float  # the largest difference
    relative: float
    examples: int  # how many were replayed
    outputs: int  # how many were compared


@dataclass(frozen=True)
class Artifact:
    """One named thing that an adapter made."""

    name: str  # "" where the adapter made one
    uri: str  # as printed; of a published file its path below the artifact store, "ab/cdef…/model.onnx"
    media_type: str | None = None
    digest: str | None = None  # BLAKE3 of what was published; "sha256:…" of an image where the URI holds it
    size: int | None = None  # bytes
    published: bool = False  # cogbuild keeps the bytes
    fidelity: Fidelity | None = None

    @property
    def identity(self) -> str:
        """What counts for those that need it."""
        return self.digest or f"{self.uri} (unverified)"


@dataclass(frozen=True)
class Outcome:
    """How a pair stands: artifacts, or the reason why the adapter does not apply to the model."""

    eid: int
    aid: int
    key: str
    manifest: bytes
    artifacts: tuple[Artifact, ...]
    reason: str | None  # not None: not applicable
    attempt: str  # of the run that made it, here or elsewhere
    made: float  # seconds since the epoch
    how: str  # "built" or "restored"
    test: str | None = None  # digest of the test that judged it; None: no test
    test_failed: str | None = None  # what the test said when it refused
    seen: float | None = None  # when the artifact was last seen to exist
    lost: str | None = None  # why it is known to be gone
    reasons: str = "[]"  # JSON: why it took the place of what was there before

    @property
    def identity(self) -> str:
        """What counts for those that need it: the same bytes under the same names, in the same order, give the same text.

        All of that reaches them: the first artifact under the adapter's name, each under its own, files by their paths.
        """
        if self.reason is not None:
            return f"not applicable: {self.reason}"
        return "; ".join(_with_names(item) for item in self.artifacts)


def _with_names(item: Artifact) -> str:
    name = f"{item.name}=" if item.name else ""
    file = f" {item.uri.rpartition('/')[2]}" if item.published else ""
    return name + item.identity + file


# -- outcomes -----------------------------------------------------------------------------------------------------

_OUTCOME = """SELECT o.eid, o.aid, o.key, o.manifest, o.artifacts, o.reason, o.attempt, o.made, o.how, t.value, o.test_failed,
    o.seen, o.lost, r.value FROM outcomes o LEFT JOIN shared t ON t.sid = o.test LEFT JOIN shared r ON r.sid = o.reasons """


def _outcomes(con: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> list[Outcome]:
    manifests = unpack_manifests(con, (row[3] for row in rows))
    return [_outcome(row, manifest) for row, manifest in zip(rows, manifests, strict=True)]


def _outcome(row: Sequence[Any], manifest: bytes) -> Outcome:
    eid, aid, key, _, artifacts, reason, attempt, made, how, test, test_failed, seen, lost, reasons = row
    return Outcome(
        eid,
        aid,
        key.hex(),
        manifest,
        load_artifacts(artifacts),
        reason,
        attempt_name(attempt),
        made,
        how,
        test,
        test_failed,
        seen,
        lost,
        reasons or "[]",
    )


def dump_artifacts(artifacts: Iterable[Artifact]) -> str:
    """Return artifacts as JSON, without what is not there; where a published one is kept follows from its digest."""
    rows = []
    for item in artifacts:
        row = {name: value for name, value in vars(item).items() if value}
        if item.published and item.digest and item.uri.startswith(place := _place(item.digest)):
            row["file"] = item.uri.removeprefix(place)
            del row["uri"], row["published"]
        rows.append(row)
    return json.dumps(rows, sort_keys=True, separators=(",", ":"))


def load_artifacts(text: str) -> tuple[Artifact, ...]:
    """Return the artifacts that ``dump_artifacts`` wrote."""
    return tuple(_artifact(**row) for row in json.loads(text))


def _artifact(*, name: str = "", file: str | None = None, **row: Any) -> Artifact:
    if (measured := row.get("fidelity")) is not None:
        row["fidelity"] = Fidelity(*measured)
    if file is not None:
        row |= {"uri": _place(row["digest"]) + file, "published": True}
    return Artifact(name, **row)


def _place(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}/"


def outcome(con: sqlite3.Connection, eid: int, aid: int) -> Outcome | None:
    """Return how a pair stands."""
    rows = con.execute(_OUTCOME + "WHERE o.eid = ? AND o.aid = ?", (eid, aid)).fetchall()
    return _outcomes(con, rows)[0] if rows else None


#: The stamp of a pair whose entry is not there.
NO_STAMP = (None,) * 9


def stamp(con: sqlite3.Connection, eid: int, aid: int | None) -> tuple[object, ...]:
    """Return what moves whenever the database says something new of a pair: entry, outcome, and why it is listed."""
    return stamps(con, [eid], aid).get(eid, NO_STAMP)


def stamps(con: sqlite3.Connection, eids: Sequence[int], aid: int | None) -> dict[int, tuple[object, ...]]:
    """Return the stamps of pairs of one adapter, by eid."""
    rows = con.execute(
        "SELECT e.eid, e.seq, o.key, o.attempt, o.made, o.test, o.test_failed, o.lost, e.live, p.why FROM entries e "
        "LEFT JOIN outcomes o ON o.eid = e.eid AND o.aid = ?2 LEFT JOIN pending p ON p.eid = e.eid AND p.aid = ?2 "
        "WHERE e.eid IN (SELECT value FROM json_each(?1))",
        (json.dumps(eids), aid),
    )
    return {eid: tuple(stamp) for eid, *stamp in rows}


def outcomes(
    con: sqlite3.Connection, *, eids: Iterable[int] | None = None, aid: int | None = None
) -> dict[tuple[int, int], Outcome]:
    """Return outcomes by (eid, aid)."""
    where, values = ["1"], []
    if eids is not None:
        where.append("o.eid IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(list(eids)))
    if aid is not None:
        where.append(f"o.aid = {int(aid)}")
    rows = con.execute(_OUTCOME + "WHERE " + " AND ".join(where), values).fetchall()
    return {(item.eid, item.aid): item for item in _outcomes(con, rows)}


_PUT_OUTCOME = """INSERT INTO outcomes(eid, aid, key, manifest, artifacts, reason, attempt, made, how, test, test_failed, seen, lost,
    reasons) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (eid, aid) DO UPDATE SET
    key = excluded.key, manifest = excluded.manifest, artifacts = excluded.artifacts, reason = excluded.reason,
    attempt = excluded.attempt, made = excluded.made, how = excluded.how, test = excluded.test,
    test_failed = excluded.test_failed, seen = excluded.seen, lost = excluded.lost, reasons = excluded.reasons"""


def put_outcomes(con: sqlite3.Connection, aid: int, context: str, news: Sequence[Outcome]) -> None:
    """Record how pairs of one adapter stand, each given once; take them off the list; list those that need what moved.

    *context* is the one that they were judged under: under another they may still have something to do.
    """
    eids = [new.eid for new in news]
    before = {eid: item for (eid, _), item in outcomes(con, eids=eids, aid=aid).items()}
    sids = numbers(con, (text for new in news for text in (new.test, new.reasons)))
    packed = pack_manifests(con, (new.manifest for new in news))
    con.executemany(
        _PUT_OUTCOME,
        [
            (
                new.eid,
                aid,
                bytes.fromhex(new.key),
                manifest,
                dump_artifacts(new.artifacts),
                new.reason,
                attempt_bytes(new.attempt),
                new.made,
                new.how,
                sids[new.test] if new.test else None,
                new.test_failed,
                new.seen,
                new.lost,
                sids[new.reasons],
            )
            for new, manifest in zip(news, packed, strict=True)
        ],
    )
    _put_names(con, aid, news, before)
    known = con.execute("SELECT context FROM adapters WHERE aid = ?", (aid,)).fetchone()
    con.executemany("DELETE FROM pending WHERE aid = ? AND eid = ?", ((aid, eid) for eid in eids))
    if known is not None and known[0] not in (None, bytes.fromhex(context)):
        # Tried under another context than the one that the mark rests on: back there, they have to be judged again.
        add_pending(con, aid, eids, "planned")
    # Made anew; what is restored is only believed to be there.
    built = [name for new in news if new.how == "built" for name in lost_names(new.artifacts)]
    con.executemany("DELETE FROM lost WHERE artifact = ?", ((name,) for name in built))
    enqueue_dependents(con, aid, *(new.eid for new in news if _moved(before.get(new.eid), new)))


def _put_names(
    con: sqlite3.Connection, aid: int, news: Sequence[Outcome], before: dict[int, Outcome]
) -> None:
    """Say which outcomes name which artifacts, where that changed."""
    changed = [new for new in news if new.eid not in before or before[new.eid].artifacts != new.artifacts]
    if not changed:
        return
    rows = con.execute(
        "SELECT eid, oid FROM outcomes WHERE aid = ? AND eid IN (SELECT value FROM json_each(?))",
        (aid, json.dumps([new.eid for new in changed])),
    )
    oids = dict(rows.fetchall())
    for new in changed:
        if new.eid in before:
            drop_names(con, oids[new.eid], before[new.eid].artifacts)
    con.executemany(
        "INSERT OR IGNORE INTO named VALUES (?, ?)",
        [(name_number(name), oids[new.eid]) for new in changed for name in set(lost_names(new.artifacts))],
    )


def _moved(before: Outcome | None, new: Outcome) -> bool:
    """Whether those that need the pair have to be judged again."""
    return (
        before is None
        or before.identity != new.identity
        or (before.test_failed, before.lost) != (new.test_failed, None)
    )


def enqueue_dependents(con: sqlite3.Connection, aid: int, *eids: int) -> None:
    """List the pairs of the same models whose adapters need this one."""
    rows = con.execute(
        "SELECT d.aid FROM adapters d, adapters n WHERE n.aid = ? AND d.needs != '[]' "
        "AND EXISTS (SELECT 1 FROM json_each(d.needs) WHERE value = n.name)",
        (aid,),
    )
    for (other,) in rows.fetchall():
        add_pending(con, other, eids, "needs")


def same_needs(con: sqlite3.Connection, eid: int, needs: Iterable[tuple[str, str]]) -> bool:
    """Whether what a pair needs is still identified as it was: *needs* are (adapter, identity)."""
    for name, identity in needs:
        aid = adapter_id(con, name)
        now = outcome(con, eid, aid) if aid is not None else None
        if now is not None and now.identity != identity:
            return False
    return True


def drop_names(con: sqlite3.Connection, oid: int, artifacts: Iterable[Artifact]) -> None:
    """Say that an outcome names these no longer."""
    numbers = {name_number(name) for name in lost_names(artifacts)}
    con.executemany("DELETE FROM named WHERE name = ? AND oid = ?", ((number, oid) for number in numbers))


def naming(con: sqlite3.Connection, name: str) -> Iterator[Outcome]:
    """Yield the outcomes that have an artifact of this name: the digest of what cogbuild keeps, else the URI."""
    rows = con.execute(
        _OUTCOME + "JOIN named n ON n.oid = o.oid WHERE n.name = ?", (name_number(name),)
    ).fetchall()
    return (item for item in _outcomes(con, rows) if name in lost_names(item.artifacts))


def drop_outcome(con: sqlite3.Connection, eid: int, aid: int) -> None:
    """Forget how a pair stands (``clean``)."""
    row = con.execute("SELECT oid, artifacts FROM outcomes WHERE eid = ? AND aid = ?", (eid, aid)).fetchone()
    if row is not None:
        drop_names(con, row[0], load_artifacts(row[1]))
    con.execute("DELETE FROM outcomes WHERE eid = ? AND aid = ?", (eid, aid))
    unpin_pair(con, eid, aid)
    add_pending(con, aid, [eid], "cleaned")
    enqueue_dependents(con, aid, eid)


def is_named(con: sqlite3.Connection, digest: str) -> bool:
    """Whether an outcome or a pin names the published artifact."""
    if con.execute("SELECT 1 FROM pins WHERE artifact = ?", (digest,)).fetchone():
        return True
    return any(True for _ in naming(con, digest))


def mark_seen(con: sqlite3.Connection, eid: int, aid: int, when: float) -> None:
    """Say when the artifact was last seen to exist."""
    con.execute("UPDATE outcomes SET seen = ?, lost = NULL WHERE eid = ? AND aid = ?", (when, eid, aid))
    # What was noted before it was lost is not known any more: the next run looks.
    con.execute("UPDATE pending SET why = 'planned' WHERE eid = ? AND aid = ? AND why = 'lost'", (eid, aid))


def lost_names(artifacts: Iterable[Artifact]) -> list[str]:
    """Return the names under which lost artifacts are remembered."""
    return [f"{item.digest}" if item.published else item.uri for item in artifacts]


def mark_lost(con: sqlite3.Connection, eid: int, aid: int, why: str, artifacts: Iterable[Artifact]) -> None:
    """Say that an artifact is gone: the pair is stale, and no record that names the artifact is restored."""
    con.execute("UPDATE outcomes SET lost = ? WHERE eid = ? AND aid = ?", (why, eid, aid))
    now = time.time()
    con.executemany(
        "INSERT OR IGNORE INTO lost VALUES (?, ?)", ((name, now) for name in lost_names(artifacts))
    )
    add_pending(con, aid, [eid], "lost")
    enqueue_dependents(con, aid, eid)


def any_lost(con: sqlite3.Connection, artifacts: Iterable[Artifact]) -> bool:
    """Whether one of the artifacts is known to be gone."""
    return any(
        con.execute("SELECT 1 FROM lost WHERE artifact = ?", (name,)).fetchone()
        for name in lost_names(artifacts)
    )


def count(
    con: sqlite3.Connection,
    adapter: str,
    *,
    runs: int = 0,
    misses: int = 0,
    restored: int = 0,
    saved: float = 0.0,
) -> None:
    """Add to an adapter's counters; *saved* is the seconds that a restored piece of work had taken."""
    con.execute(
        "INSERT INTO counters VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET runs = runs + excluded.runs, "
        "misses = misses + excluded.misses, restored = restored + excluded.restored, saved = saved + excluded.saved",
        (adapter, runs, misses, restored, saved),
    )


def counters(con: sqlite3.Connection) -> list[tuple[str, int, int, int, float]]:
    """Return (adapter, runs, misses, restored, seconds saved) by adapter."""
    return [tuple(row) for row in con.execute("SELECT * FROM counters ORDER BY adapter")]


# -- pins ---------------------------------------------------------------------------------------------------------


def set_pin(con: sqlite3.Connection, of: Outcome, *, pinned: bool) -> None:
    """Keep what the pair has made from being collected, or no longer; it stays kept when the pair makes something new."""
    for name in lost_names(of.artifacts):
        if pinned:
            con.execute("INSERT OR IGNORE INTO pins VALUES (?, ?, ?, ?)", (name, of.eid, of.aid, time.time()))
        else:
            con.execute("DELETE FROM pins WHERE artifact = ?", (name,))


def unpin_pair(con: sqlite3.Connection, eid: int, aid: int) -> int:
    """Let go of everything that was pinned for a pair; return how many artifacts that were."""
    return con.execute("DELETE FROM pins WHERE eid = ? AND aid = ?", (eid, aid)).rowcount


def pins(con: sqlite3.Connection) -> set[str]:
    """Return the pinned artifacts: digests of published ones, else URIs."""
    return {name for (name,) in con.execute("SELECT artifact FROM pins")}
