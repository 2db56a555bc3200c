"""`python -m` an engine with reloads in the foreground: what comes of each is a line of JSON. Ended by its stdin."""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path

from fanout.config import load
from fanout.engine.local import LocalEngine
from fanout.engine.reloads import Reloaded
from fanout.engine.watcher import Watcher
from fanout.errors import ConfigError


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def tell(reloaded: Reloaded) -> None:
    say(
        app=reloaded.app,
        error=None if reloaded.error is None else reloaded.error.message,
        changes=[str(each) for each in reloaded.changes],
        took_ms=reloaded.took_ms,
        hint=reloaded.hint,
    )


def main() -> None:
    path = Path("fanout.toml").absolute()
    with LocalEngine(load(path)) as own:
        watcher = Watcher(own.config, own.wake)
        own.on_reloaded = tell
        own.open(is_development=True, has_reloads=True)
        own.load()
        say(ready=len(own.engine.functions))

        def look() -> None:
            changed = watcher.take()
            if changed:
                try:
                    config = load(path)
                except ConfigError as error:
                    say(refused=error.message)
                    return
                watcher.watch(config)
                own.reload(config, changed)

        own.run(lambda: bool(select.select([sys.stdin], [], [], 0)[0]), on_tick=look)
        watcher.close()


if __name__ == "__main__":
    main()
