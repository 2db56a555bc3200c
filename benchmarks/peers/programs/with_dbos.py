"""DBOS with SQLite, which is its default: a function is a durable workflow of two steps, in threads of one process."""

from __future__ import annotations

from pathlib import Path

from dbos import DBOS
from driving import FUNCTIONS, drive, page

DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{Path.cwd() / 'dbos.sqlite'}",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
)


@DBOS.step()
def one() -> str:
    return page()


@DBOS.step()
def two() -> str:
    return page()


@DBOS.workflow()
def function(_number: int) -> None:
    one()
    two()


@DBOS.workflow()
def single() -> None:
    one()


def main() -> None:
    DBOS.launch()
    drive(_fan_out, lambda: DBOS.start_workflow(single).get_result())
    DBOS.destroy()


def _fan_out(events: int) -> None:
    handles = [DBOS.start_workflow(function, number) for number in range(events) for _ in range(FUNCTIONS)]
    for handle in handles:
        handle.get_result()


if __name__ == "__main__":
    main()
