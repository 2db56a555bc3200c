-- The journal. Times are milliseconds since 1970, UTC; ids are ULIDs; payloads are JSON text.
--
-- event    What happened, in the order in which it was accepted. Any process may append one; nothing changes it
--          afterwards. `key` only grows and is never used twice, so "routed so far" is one number (meta.routed_to).
-- run      One function for one event. Written together with all its siblings, in the transaction that moves
--          routed_to past their event; unique on (event, function), so no event is fanned out twice.
--          `rank` is its place in the queue of its partition. `attempt` counts the failures charged so far;
--          every change of a run is guarded by its state and its attempt. `crashes` counts the worker deaths that
--          it was found guilty of; a suspect (one of several in a dead worker) next runs alone in a worker.
--          A replay is a run of its own, with `replay_of` set; the run it came from is never touched.
-- step     A named piece of work inside a run: `charge`, then `charge#2` for the second of that name. A completed
--          or failed step never changes again; a retrying one is due at `due_at`. `position` is the order in which steps were first reached.
-- failure  One failed attempt of a step, or of the code between steps (step = '').
-- request  What other processes ask of the engine: replay, cancel. Any process may append one.
-- meta     A few single values.
--
-- A start is not written down: a run or step still going after a quarter of a second is then recorded as running.
-- Only the engine, which holds the file lock, writes to run, step, failure and meta.

CREATE TABLE event (
  key         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL,
  is_id_given INTEGER NOT NULL CHECK (is_id_given IN (0, 1)),
  name        TEXT    NOT NULL,
  ts          INTEGER NOT NULL,
  data        TEXT    NOT NULL,
  user        TEXT,
  v           TEXT,
  received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX event_id ON event (id);

CREATE TABLE run (
  key          INTEGER PRIMARY KEY,
  id           TEXT    NOT NULL UNIQUE,
  function     TEXT    NOT NULL,
  event        INTEGER NOT NULL REFERENCES event (key),
  partition    TEXT    NOT NULL DEFAULT '',
  rank         INTEGER NOT NULL,
  state        TEXT    NOT NULL CHECK (state IN
    ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'skipped')),
  reason       TEXT,
  attempt      INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  crashes      INTEGER NOT NULL DEFAULT 0,
  is_suspect   INTEGER NOT NULL DEFAULT 0 CHECK (is_suspect IN (0, 1)),
  queued_at    INTEGER NOT NULL,
  due_at       INTEGER,
  started_at   INTEGER,
  ended_at     INTEGER,
  output       TEXT,
  replay_of    INTEGER REFERENCES run (key),
  CHECK ((state = 'waiting') = (due_at IS NOT NULL)),
  CHECK ((state IN ('completed', 'failed', 'cancelled', 'skipped')) = (ended_at IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX run_event   ON run (event, function, CASE WHEN replay_of IS NULL THEN 0 ELSE key END);
CREATE        INDEX run_queued  ON run (function, partition, rank, key) WHERE state = 'queued';
CREATE        INDEX run_due     ON run (due_at)                         WHERE state = 'waiting';
CREATE        INDEX run_running ON run (key)                            WHERE state = 'running';
CREATE        INDEX run_failed  ON run (key)                            WHERE state = 'failed';
CREATE        INDEX run_replay  ON run (replay_of)                      WHERE replay_of IS NOT NULL;

CREATE TABLE step (
  run        INTEGER NOT NULL REFERENCES run (key),
  key        TEXT    NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('running', 'retrying', 'completed', 'failed')),
  position   INTEGER NOT NULL,
  attempts   INTEGER NOT NULL,
  output     TEXT,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  due_at     INTEGER,
  PRIMARY KEY (run, key),
  CHECK ((state = 'completed') = (output IS NOT NULL)),
  CHECK ((state = 'running') = (ended_at IS NULL)),
  CHECK (state = 'retrying' OR due_at IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX step_due ON step (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE failure (
  run       INTEGER NOT NULL REFERENCES run (key),
  step      TEXT    NOT NULL,
  attempt   INTEGER NOT NULL,
  type      TEXT    NOT NULL,
  message   TEXT    NOT NULL,
  traceback TEXT    NOT NULL,
  at        INTEGER NOT NULL
) STRICT;

CREATE INDEX failure_run ON failure (run);

CREATE TABLE request (
  key        INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT    NOT NULL CHECK (kind IN ('replay', 'cancel')),
  body       TEXT    NOT NULL,
  made_at    INTEGER NOT NULL,
  handled_at INTEGER
) STRICT;

CREATE INDEX request_open ON request (key) WHERE handled_at IS NULL;

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value ANY  NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('routed_to', 0);
