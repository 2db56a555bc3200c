"""What `fanout replay --dry-run` prints: which steps are carried over, which run again, and which are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fanout.commands import report
from fanout.commands.text import count, printable
from fanout.core.replays import FunctionPlan
from fanout.views.replays import plan_json

_INDENT = 9
_LEAST_TEXT = 20


def show(planned: int, plans: Sequence[FunctionPlan], *, as_json: bool) -> None:
    if as_json:
        report.print_json(plan_json(planned, plans))
    else:
        _print(planned, plans)


def _print(planned: int, plans: Sequence[FunctionPlan]) -> None:
    from rich.text import Text  # lazy: `--json` doesn't draw

    out = report.console()
    of = f" of {count(len(plans), 'function')}" if len(plans) > 1 else ""
    out.print(Text(f"{count(planned, 'run')}{of} to replay", style="bold"))
    for plan in plans:
        out.print(Text(printable(plan.function), style="bold").append(f"  {count(plan.runs, 'run')}", style="dim"))
        for name, style, steps in (
            ("reuse", "green", _counted(plan.reused, plan.runs)),
            ("given", "cyan", [printable(each) for each in plan.given]),
            ("run", "yellow", _counted(plan.again, plan.runs)),
            ("new", "yellow", [printable(each) for each in plan.new]),
            ("gone", "red", _counted(plan.gone, plan.runs)),
        ):
            if not steps:
                continue
            label = Text(f"  {name:<{_INDENT - 2}}", style=style)
            for number, line in enumerate(_lines(steps, max(_LEAST_TEXT, out.width - _INDENT))):
                out.print((Text(" " * _INDENT) if number else label) + Text(line), soft_wrap=True)
        if plan.gone:
            out.print(Text(f"{' ' * _INDENT}recorded, but today's code has no such step", style="dim"), soft_wrap=True)
        if not plan.is_known:
            said = "which steps the code has can't be known before it runs"
            out.print(Text(f"  {said}", style="dim"), soft_wrap=True)


def _counted(steps: Mapping[str, int], runs: int) -> list[str]:
    """With how many runs have it, if that is not all of them."""
    return [
        printable(name) + ("" if number == runs else f" ({number:,} of {runs:,} runs)")
        for name, number in steps.items()
    ]


def _lines(steps: Sequence[str], width: int) -> list[str]:
    """Names with commas between them, broken between names."""
    lines = [""]
    for number, step in enumerate(steps):
        said = step + ("," if number + 1 < len(steps) else "")
        if lines[-1] and len(lines[-1]) + len(said) + 1 > width:
            lines.append(said)
        else:
            lines[-1] = f"{lines[-1]} {said}".lstrip()
    return lines
