"""A first function.

fanout send functions/events/hello.json
"""

import fanout
from fanout import Context


@fanout.function(trigger=fanout.on("app/hello"))
def say_hello(ctx: Context) -> dict[str, str]:
    # A step runs once: when the function is tried again, what it returned is still there.
    greeting = ctx.step.run("greet", greet, ctx.event.data["name"])
    return {"greeting": greeting}


def greet(name: str) -> str:
    return f"Hello, {name}!"
