-- The journal. Times are milliseconds since 1970, UTC; ids are ULIDs; payloads are JSON text.
--
-- event    What happened, in the order in which it was accepted. Any process may append one; nothing changes it
--          afterwards. `key` only grows and is never used twice, so "routed so far" is one number (meta.routed_to).
--          The engine's own (fanout/...) have negative keys: they are written together with the runs that they
--          start, and are never routed again. `origin` is the run that sent or caused it.
-- run      One function for one event. Written together with all its siblings, in the transaction that moves
--          routed_to past their event; unique on (event, function), so no event is fanned out twice.
--          `rank` is its place in the queue of its partition. `attempt` counts the failures charged so far;
--          every change of a run is guarded by its state and its attempt. `crashes` counts the worker deaths that
--          it was found guilty of; a suspect (one of several in a dead worker) next runs alone in a worker.
--          A waiting run waits for its own `due_at` if that is set, and for any of its steps otherwise.
--          `deadline_at` is when it has to have started, and once it has, when it has to be over.
--          A replay is a run of its own, with `replay_of` set; the run it came from is never touched.
--          A child has a `parent` and the step there that waits for it; of a map it is the `item`-th.
--          An echo was started by an event of the engine's own, because its function listens to that, or is a child of
--          such a run: nothing is announced of it, or it would start itself without end.
--          A run that is held collects events until `due_at`: of its function at most one by the name `hold`. The keys
--          that it has (partition, singleton) are those of the event that it has when it is held no longer.
--          `singleton` is the key of which its function has one live run at a time.
--          `event_name` is its event's: so one index has ended runs by function, event and state, the newest last.
-- step     A named piece of work inside a run: `charge`, then `charge#2` for the second of that name. A completed,
--          failed or cancelled step never changes again; a retrying or waiting one is due at `due_at`.
--          `position` is the order in which steps were first reached, `branch` the parallel branch they belong to.
--          `attempted_at` is when its last attempt began, if it had several. One whose result a replay was given by
--          hand had none at all: its `attempts` are 0.
-- run_event The events of a batch, in order. Of a debounced run, those that were left out (`is_replaced`): its own is
--          `run.event`.
-- failure  One failed attempt of a step, or of the code between steps (step = ''), and when that began, if it is known.
-- wait     Which event a waiting step waits for, or which cancels the run (step = ''): one whose value at `path` is
--          `value`, and for which the CEL `condition` is true, of those accepted `after` this one. Gone when the wait
--          is over.
-- map      A map step that is not over: how many of its items have become runs, how many of those have ended.
-- limit_state  What a limit remembers for a key: of a rate limit or throttle the time up to which it is used, of
--          idempotency when the key last started a run.
-- schedule Up to when the ticks of a cron trigger have been dealt with.
-- tick     The run of a function for one tick of its cron triggers; unique, so no tick can be doubled.
-- function What the code last had: the settings of its functions, as JSON; `is_present` is 0 for one that is gone.
-- pause    Functions whose runs are not to be started.
-- request  What other processes ask of the engine: replay, cancel, invoke. Any process may append one. A replay of many
--          runs is made a slice at a time: of those that it lists, `done` have been dealt with; with a rate, the
--          next one starts at `next_at`. `outcome` is what came of it, as JSON, where that is more than a run.
-- meta     A few single values.
--
-- A start is not written down: a run or step still going after a quarter of a second is then recorded as running.
-- Only the engine, which holds the file lock, writes to anything but event and request.
-- It also removes what has become old: a final run with all that belongs to it, its children and replays first or along
-- with it, and events that no run has. What is left refers to nothing that is gone, but for an event's `origin`.
-- States are checked with OR: of an IN with more than two values SQLite makes a table, for every row that is written,
-- which took a third of a commit's time.

CREATE TABLE event (
  key         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL,
  is_id_given INTEGER NOT NULL CHECK (is_id_given IN (0, 1)),
  name        TEXT    NOT NULL,
  ts          INTEGER NOT NULL,
  data        TEXT    NOT NULL,
  user        TEXT,
  v           TEXT,
  received_at INTEGER NOT NULL,
  origin      INTEGER
) STRICT;

CREATE INDEX event_id     ON event (id);
CREATE INDEX event_origin ON event (origin) WHERE origin IS NOT NULL;

CREATE TABLE run (
  key          INTEGER PRIMARY KEY,
  id           TEXT    NOT NULL UNIQUE,
  function     TEXT    NOT NULL,
  event        INTEGER NOT NULL REFERENCES event (key),
  event_name   TEXT    NOT NULL DEFAULT '',
  partition    TEXT    NOT NULL DEFAULT '',
  rank         INTEGER NOT NULL,
  state        TEXT    NOT NULL CHECK (state = 'queued' OR state = 'running' OR state = 'waiting' OR
    state = 'completed' OR state = 'failed' OR state = 'cancelled' OR state = 'skipped'),
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
  parent       INTEGER REFERENCES run (key),
  parent_step  TEXT,
  item         INTEGER,
  item_key     TEXT,
  deadline_at  INTEGER,
  is_echo      INTEGER NOT NULL DEFAULT 0 CHECK (is_echo IN (0, 1)),
  hold         TEXT,
  singleton    TEXT,
  CHECK (state = 'waiting' OR due_at IS NULL),
  CHECK (hold IS NULL OR due_at IS NOT NULL),
  CHECK ((parent IS NULL) = (parent_step IS NULL)),
  CHECK (ended_at IS NULL OR deadline_at IS NULL),
  CHECK ((state = 'completed' OR state = 'failed' OR state = 'cancelled' OR state = 'skipped') =
    (ended_at IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX run_once    ON run (event, function, CASE WHEN replay_of IS NULL THEN 0 ELSE key END);
CREATE        INDEX run_queued  ON run (function, partition, rank, key) WHERE state = 'queued';
CREATE        INDEX run_due     ON run (due_at)                         WHERE due_at IS NOT NULL;
CREATE        INDEX run_deadline ON run (deadline_at)                   WHERE deadline_at IS NOT NULL;
CREATE        INDEX run_parent  ON run (parent, parent_step, item)      WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX run_item    ON run (parent, parent_step, item_key)  WHERE item_key IS NOT NULL;
CREATE        INDEX run_running ON run (key)                            WHERE state = 'running';
CREATE        INDEX run_replay  ON run (replay_of)                      WHERE replay_of IS NOT NULL;
CREATE        INDEX run_ended   ON run (function, event_name, state)    WHERE ended_at IS NOT NULL;
CREATE        INDEX run_waiting ON run (function, event_name)           WHERE state = 'waiting';

CREATE        INDEX run_hold      ON run (function, hold)               WHERE hold IS NOT NULL;
CREATE        INDEX run_singleton ON run (function, singleton)          WHERE singleton IS NOT NULL AND ended_at IS NULL;

CREATE TABLE run_event (
  run      INTEGER NOT NULL REFERENCES run (key),
  position INTEGER NOT NULL,
  event    INTEGER NOT NULL REFERENCES event (key),
  is_replaced INTEGER NOT NULL DEFAULT 0 CHECK (is_replaced IN (0, 1)),
  PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_event_event ON run_event (event);

CREATE TABLE step (
  run        INTEGER NOT NULL REFERENCES run (key),
  key        TEXT    NOT NULL,
  kind       TEXT    NOT NULL CHECK (kind = 'run' OR kind = 'sleep' OR kind = 'wait' OR kind = 'send' OR
    kind = 'invoke' OR kind = 'map'),
  branch     TEXT    NOT NULL,
  state      TEXT    NOT NULL CHECK (state = 'running' OR state = 'retrying' OR state = 'waiting' OR
    state = 'completed' OR state = 'failed' OR state = 'cancelled'),
  position   INTEGER NOT NULL,
  attempts   INTEGER NOT NULL,
  output     TEXT,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  due_at     INTEGER,
  attempted_at INTEGER,
  is_unreached INTEGER NOT NULL DEFAULT 0 CHECK (is_unreached IN (0, 1)),
  PRIMARY KEY (run, key),
  CHECK ((state = 'completed') = (output IS NOT NULL)),
  CHECK ((state IN ('running', 'waiting')) = (ended_at IS NULL)),
  CHECK (state IN ('retrying', 'waiting') OR due_at IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX step_due ON step (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE failure (
  run       INTEGER NOT NULL REFERENCES run (key),
  step      TEXT    NOT NULL,
  attempt   INTEGER NOT NULL,
  type      TEXT    NOT NULL,
  message   TEXT    NOT NULL,
  traceback TEXT    NOT NULL,
  at        INTEGER NOT NULL,
  began_at  INTEGER
) STRICT;

CREATE INDEX failure_run ON failure (run, step, type, message);

CREATE TABLE wait (
  run        INTEGER NOT NULL REFERENCES run (key),
  step       TEXT    NOT NULL,
  number     INTEGER NOT NULL,
  event      TEXT    NOT NULL,
  path       TEXT    NOT NULL,
  value      TEXT    NOT NULL,
  condition  TEXT,
  expires_at INTEGER,
  after      INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, step, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX wait_event ON wait (event, path, value);

CREATE TABLE map (
  run           INTEGER NOT NULL REFERENCES run (key),
  step          TEXT    NOT NULL,
  function      TEXT    NOT NULL,
  taken         INTEGER NOT NULL,
  ended         INTEGER NOT NULL CHECK (ended <= taken),
  is_exhausted  INTEGER NOT NULL CHECK (is_exhausted IN (0, 1)),
  max_in_flight INTEGER NOT NULL,
  is_collecting INTEGER NOT NULL CHECK (is_collecting IN (0, 1)),
  PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE limit_state (
  function TEXT    NOT NULL,
  kind     TEXT    NOT NULL,
  key      TEXT    NOT NULL,
  value    INTEGER NOT NULL,
  PRIMARY KEY (function, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
  function TEXT    NOT NULL,
  cron     TEXT    NOT NULL,
  through  INTEGER NOT NULL,
  PRIMARY KEY (function, cron)
) STRICT, WITHOUT ROWID;

CREATE TABLE tick (
  function     TEXT    NOT NULL,
  scheduled_at INTEGER NOT NULL,
  run          INTEGER NOT NULL REFERENCES run (key),
  PRIMARY KEY (function, scheduled_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX tick_run ON tick (run);

CREATE TABLE function (
  id         TEXT    PRIMARY KEY,
  spec       TEXT    NOT NULL,
  loaded_at  INTEGER NOT NULL,
  is_present INTEGER NOT NULL CHECK (is_present IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE pause (
  function  TEXT    PRIMARY KEY,
  paused_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE request (
  key        INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT    NOT NULL CHECK (kind IN ('replay', 'cancel', 'invoke', 'pause', 'resume', 'tick', 'prune')),
  body       TEXT    NOT NULL,
  made_at    INTEGER NOT NULL,
  handled_at INTEGER,
  run        INTEGER REFERENCES run (key),
  done       INTEGER NOT NULL DEFAULT 0,
  next_at    INTEGER,
  outcome    TEXT
) STRICT;

CREATE INDEX request_open ON request (key) WHERE handled_at IS NULL;
CREATE INDEX request_run  ON request (run) WHERE run IS NOT NULL;

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value ANY  NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('routed_to', 0);
