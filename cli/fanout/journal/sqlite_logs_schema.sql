-- What functions have printed and logged. Runs are in the journal, and known here by their ids.
--
--   run    one that has written something: how many lines are kept, and how many more there were
--   line   one line that was printed, or one record that was logged

CREATE TABLE run (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    lines INTEGER NOT NULL DEFAULT 0,
    left_out INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE line (
    run INTEGER NOT NULL REFERENCES run (key),
    number INTEGER NOT NULL,       -- from 1, as they came
    step TEXT,                     -- whose own code wrote it; NULL: the code between steps
    attempt INTEGER NOT NULL,      -- from 0: of the step, or of the code between steps
    at INTEGER NOT NULL,           -- milliseconds UTC
    source TEXT NOT NULL,          -- stdout, stderr, or a level
    logger TEXT,                   -- of a record
    text TEXT NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
