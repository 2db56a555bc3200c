"""`fanout.toml`: refused in a message that names the file, or a Config whose numbers are within their limits."""

from __future__ import annotations

import atexit
import shutil
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from fanout.config import MAX_PORT, MAX_PROCESSES, MAX_SLOTS, load
from fanout.core.retention import keep_for
from fanout.errors import ConfigError
from tests.fuzz.targets.saying import check_words

SEEDS = (
    b'[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\nslots = 32\npark = "5s"\n[dev]\nretry_delay = 0.05\n',
    b'[[apps]]\nid = "a"\npath = "a"\npython = "python3"\n[[apps]]\nid = "b"\npath = "b"\nfunctions = ["x.y"]\n',
    b'[journal]\npath = "x.db"\nkeep_completed = "7d"\nkeep_failed = "never"\n[web]\nhost = "::1"\nport = 0\n',
    b'[redact]\nkeys = ["password"]\n', b'app.id = "x"\n', b"[pool\n", b'[app]\nid = """\nx"""\n', b"\xff", b"a = 1\na = 2\n",
    b"[journal]\nkeep_completed = 1979-05-27T07:32:00Z\n", b"[pool]\nslots = 9223372036854775808\npark = inf\n",
)  # fmt: skip
_FOLDER = Path(mkdtemp(prefix="fanout-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def check(data: bytes) -> None:
    path = _FOLDER / "fanout.toml"
    path.write_bytes(data)
    try:
        config = load(path)
    except ConfigError as error:
        check_words(error)
        assert "fanout.toml" in error.message  # noqa: PT017 - what is refused is half of what is looked at
        return
    assert config.apps
    assert 1 <= config.processes <= MAX_PROCESSES
    assert 1 <= config.slots <= MAX_SLOTS
    assert 0 <= config.port <= MAX_PORT
    assert round(config.park * 1000) >= 0
    keep = keep_for(config.keep_completed, config.keep_failed)
    assert keep is None or msgspec.json.encode(keep)
    assert config.dev_retry_delay is None or round(config.dev_retry_delay * 1000) >= 0
