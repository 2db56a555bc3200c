"""How many worker processes each app gets."""

from __future__ import annotations

from collections.abc import Mapping


def shares(demand: Mapping[str, int], processes: int) -> dict[str, int]:
    """One for every app, and the rest one after another to those that could use one more, in turn.

    `demand` is how many each could use. So a backlog in one app leaves the others theirs; with more apps than
    processes there are as many as apps.
    """
    given = dict.fromkeys(demand, 1)
    left = processes - len(demand)
    while left > 0:
        wanting = [app for app, wanted in demand.items() if given[app] < wanted]
        if not wanting:
            break
        for app in wanting[:left]:
            given[app] += 1
        left -= len(wanting[:left])
    return given
