"""Functions run here alone, with the real engine, but without files, processes, or time that passes."""

from fanout.testing import run

from functions.hello import say_hello


def test_it_greets() -> None:
    assert run(say_hello, data={"name": "Ada"}).output == {"greeting": "Hello, Ada!"}


def test_a_failure_is_tried_again() -> None:
    result = run(say_hello, data={"name": "Ada"}, steps={"greet": ConnectionError("down")})

    assert result.state == "failed"
    assert result.steps["greet"].attempts == 5
