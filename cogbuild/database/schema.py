"""Tables of the Cog database and the number of their format.

Format n is made of format n - 1 by ``STEPS[n - 1]``, in one transaction, whoever opens the database first; a new database
takes all steps from the first on, so that there is one way to every table. A step that a release has shipped is never
edited: what comes later is a further step. Until then a table is added to the last step by appending its ``CREATE TABLE``.
What a step makes must be of use empty, because a database of an older format that can't be written is read as if it had
these tables with nothing in them (``connection``); a step that alters a table has to say there how it is read instead.
A table that holds what only the database knows is named in ``housekeeping.salvage`` too, so that a repair keeps it.

``entries`` is (repo, model) with a stable identity ``eid`` and a moving number ``seq``: every event that concerns a model
gives its entry the next number. ``adapters`` keeps, for each adapter, its last context and up to which number everything
was judged; ``pending`` lists the pairs below that mark that are not done. A plan is "numbers above the mark, plus
pending"; another context starts from zero. One row an adapter, not one an (adapter, context): else an edit that is taken
back plans nothing.

What there is one of for each pair is kept small, because there are millions of them (:mod:`cogbuild.database.packing`).
``outcomes`` is in the order of writing, not of pairs: a run goes from the newest model down, and a table in the order of
pairs would be left half empty by that. ``named`` finds outcomes by a number made of an artifact's name.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "FORMAT", "STEPS"]

APPLICATION_ID = 0x434F4742  # "COGB"

_FIRST = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE repos(rid INTEGER PRIMARY KEY, user TEXT NOT NULL, name TEXT NOT NULL, UNIQUE(user, name));
CREATE TABLE models(
    mid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tree BLOB NOT NULL, spec TEXT NOT NULL,
    files INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE entries(
    eid INTEGER PRIMARY KEY AUTOINCREMENT, rid INTEGER NOT NULL REFERENCES repos, mid INTEGER NOT NULL REFERENCES models,
    seq INTEGER NOT NULL UNIQUE, added REAL NOT NULL, sealed INTEGER NOT NULL, live INTEGER NOT NULL,
    cpu_image TEXT, settings TEXT NOT NULL, UNIQUE(rid, mid));
CREATE INDEX entries_special ON entries(eid) WHERE live AND (cpu_image IS NOT NULL OR settings ->> 'adapters' IS NOT NULL);
CREATE INDEX entries_of_model ON entries(mid);
CREATE INDEX entries_of_repo ON entries(rid, added);
CREATE INDEX entries_newest ON entries(added, eid) WHERE live;
INSERT INTO meta VALUES ('live', 0);
CREATE TRIGGER entries_added AFTER INSERT ON entries BEGIN
    UPDATE meta SET value = value + NEW.live WHERE name = 'live'; END;
CREATE TRIGGER entries_changed AFTER UPDATE OF live ON entries BEGIN
    UPDATE meta SET value = value + NEW.live - OLD.live WHERE name = 'live'; END;
CREATE TRIGGER entries_dropped AFTER DELETE ON entries BEGIN
    UPDATE meta SET value = value - OLD.live WHERE name = 'live'; END;
CREATE TABLE links(
    path TEXT PRIMARY KEY, repo TEXT NOT NULL, eid INTEGER REFERENCES entries, declared INTEGER NOT NULL, memo BLOB)
    WITHOUT ROWID;
CREATE INDEX links_of_entry ON links(eid);
CREATE TABLE adapters(
    aid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, context BLOB, mark INTEGER NOT NULL DEFAULT 0,
    needs TEXT NOT NULL DEFAULT '[]');
CREATE TABLE pending(
    aid INTEGER NOT NULL, eid INTEGER NOT NULL, why TEXT NOT NULL, PRIMARY KEY(aid, eid)) WITHOUT ROWID;
CREATE INDEX pending_of_entry ON pending(eid);
CREATE TABLE outcomes(
    oid INTEGER PRIMARY KEY, eid INTEGER NOT NULL, aid INTEGER NOT NULL, key BLOB NOT NULL, manifest BLOB NOT NULL,
    artifacts TEXT NOT NULL, reason TEXT, attempt NOT NULL, made REAL NOT NULL, how TEXT NOT NULL,
    test INTEGER REFERENCES shared, test_failed TEXT, seen REAL, lost TEXT, reasons INTEGER NOT NULL REFERENCES shared);
CREATE UNIQUE INDEX outcomes_of_pair ON outcomes(eid, aid);
CREATE INDEX outcomes_of_key ON outcomes(substr(key, 1, 6));
CREATE TABLE named(name INTEGER NOT NULL, oid INTEGER NOT NULL, PRIMARY KEY(name, oid)) WITHOUT ROWID;
CREATE TABLE attempts(
    id PRIMARY KEY, eid INTEGER NOT NULL, aid INTEGER NOT NULL, key BLOB, kind TEXT NOT NULL, started REAL NOT NULL,
    microseconds INTEGER NOT NULL, cpu_microseconds INTEGER NOT NULL, max_rss INTEGER NOT NULL, status TEXT NOT NULL,
    detail TEXT NOT NULL, reasons INTEGER NOT NULL REFERENCES shared) WITHOUT ROWID;
CREATE INDEX attempts_of_pair ON attempts(eid, aid);
CREATE TABLE parts(pid INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, kind TEXT NOT NULL, blob BLOB NOT NULL);
CREATE TABLE shared(sid INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL UNIQUE);
CREATE TABLE locks(
    request BLOB PRIMARY KEY, python TEXT NOT NULL, text TEXT NOT NULL, asked TEXT NOT NULL, made REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE memos(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE lost(artifact TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE counters(
    adapter TEXT PRIMARY KEY, runs INTEGER NOT NULL, misses INTEGER NOT NULL, restored INTEGER NOT NULL,
    saved REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE pins(
    artifact TEXT PRIMARY KEY, eid INTEGER NOT NULL, aid INTEGER NOT NULL, since REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX pins_of_entry ON pins(eid);
"""

# ``hashed``: what files looked like when they were last hashed (``cogbuild.hashed``). Hints: they may go at any time.
_SECOND = """
CREATE TABLE hashed(name BLOB PRIMARY KEY, at INTEGER NOT NULL, boot BLOB NOT NULL, looks BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens(
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, repos TEXT NOT NULL, can TEXT NOT NULL, note TEXT NOT NULL, made REAL NOT NULL,
    expires REAL, used REAL) WITHOUT ROWID;
CREATE TABLE jobs(
    jid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL,
    priority INTEGER NOT NULL, repo TEXT, model TEXT, request TEXT NOT NULL, owner TEXT NOT NULL, once TEXT,
    created REAL NOT NULL, started REAL, ended REAL, exit_code INTEGER);
CREATE INDEX jobs_to_do ON jobs(priority DESC, jid) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_once ON jobs(owner, once) WHERE once IS NOT NULL;
CREATE TABLE candidates(eid INTEGER NOT NULL, job TEXT NOT NULL, PRIMARY KEY(eid, job)) WITHOUT ROWID;
CREATE INDEX outcomes_without ON outcomes(aid, eid) WHERE reason IS NOT NULL;
"""

STEPS = (_FIRST, _SECOND)

#: Number of the format, kept in ``PRAGMA user_version``.
FORMAT = len(STEPS)
