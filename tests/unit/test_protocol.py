from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import protocol
from fanout.model import (
    MAX_BATCH_SIZE,
    MAX_CATCHUP,
    MAX_LIMIT,
    MAX_RETRIES,
    MAX_SPAN_S,
    Backoff,
    BatchRule,
    CancelRule,
    Catchup,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    EventTrigger,
    Failure,
    FlowRules,
    FunctionSpec,
    Overlap,
    RateLimitRule,
    SingletonRule,
    StepKind,
    StepState,
    ThrottleRule,
    TimeLimits,
)
from fanout.protocol import (
    HEADER,
    Awaited,
    Described,
    EventWait,
    Evict,
    FrameReader,
    FromExecution,
    Invoke,
    Load,
    LoadFailed,
    Map,
    MapItems,
    Parked,
    Recorded,
    RecordedStep,
    Resume,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    ShutDown,
    Sleep,
    Start,
    StepChanged,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToEngine,
    ToWorker,
    Unpark,
    frame,
    to_engine_decoder,
    to_worker_decoder,
)

numbers = st.integers(0, 2**63 - 1)
maybe_number = st.none() | numbers
# What a worker may say: of an amount, and of a time as well.
amounts = st.integers(1, 2**47)
maybe_amount = st.none() | amounts
texts = st.text(max_size=20)
maybe_text = st.none() | texts
some_texts = st.lists(texts, max_size=3).map(tuple)
failures = st.builds(Failure, texts, texts, texts)
kinds = st.sampled_from(StepKind)
recorded_steps = st.builds(
    RecordedStep,
    texts,
    texts,
    st.sampled_from(StepState),
    numbers,
    maybe_text,
    st.none() | failures,
    maybe_number,
    st.none() | st.tuples(numbers, numbers),
    kinds,
)
sent_events = st.builds(SentEvent, texts, st.booleans(), texts, maybe_amount, texts, maybe_text, maybe_text)
envelopes = st.tuples(texts, texts, numbers, texts, maybe_text, maybe_text)
delays = st.floats(0, MAX_SPAN_S)
spans = st.integers(1, MAX_SPAN_S * 1000)
maybe_span = st.none() | spans
limits = st.integers(1, MAX_LIMIT)
specs = st.builds(
    FunctionSpec,
    id=texts,
    name=texts,
    module=texts,
    qualname=texts,
    file=texts,
    line=numbers,
    is_async=st.booleans(),
    app=texts,
    triggers=st.lists(
        st.builds(EventTrigger, texts, maybe_text) | st.builds(CronTrigger, texts, texts, spans), max_size=3
    ).map(tuple),
    retries=st.integers(0, MAX_RETRIES),
    backoff=st.none()
    | st.builds(Backoff, initial=delays, factor=delays, maximum=delays, jitter=delays)
    | st.lists(delays, min_size=1, max_size=3).map(tuple),
    cancel_on=st.lists(st.builds(CancelRule, texts, maybe_text, maybe_text, maybe_span), max_size=2).map(tuple),
    timeouts=st.builds(TimeLimits, maybe_span, maybe_span, maybe_span),
    on_failure=maybe_text,
    flow=st.builds(
        FlowRules,
        concurrency=st.lists(
            st.builds(ConcurrencyRule, limits, maybe_text, st.sampled_from(["fn", "app"])), max_size=2
        ).map(tuple),
        throttle=st.none() | st.builds(ThrottleRule, limits, spans, limits, maybe_text),
        rate_limit=st.none() | st.builds(RateLimitRule, limits, spans, maybe_text),
        debounce=st.none() | st.builds(DebounceRule, spans, maybe_text, maybe_span),
        batch=st.none() | st.builds(BatchRule, st.integers(1, MAX_BATCH_SIZE), spans, maybe_text, maybe_text),
        singleton=st.none() | st.builds(SingletonRule, maybe_text, st.sampled_from(["skip", "cancel"])),
        priority=maybe_text,
        idempotency=maybe_text,
    ),
    catchup=st.sampled_from(Catchup),
    catchup_limit=st.integers(1, MAX_CATCHUP),
    overlap=st.sampled_from(Overlap),
)

AWAITED: dict[type[Any], st.SearchStrategy[Any]] = {
    Sleep: st.builds(Sleep, amounts),
    EventWait: st.builds(EventWait, texts, amounts, st.none() | st.tuples(texts, texts), maybe_text),
    Invoke: st.builds(Invoke, texts, texts, maybe_amount),
    Map: st.builds(Map, texts, amounts, st.booleans()),
}
FOR_WORKERS: dict[type[Any], st.SearchStrategy[Any]] = {
    Load: st.builds(Load, texts, some_texts, numbers),
    Start: st.builds(
        Start,
        numbers,
        texts,
        texts,
        numbers,
        envelopes,
        st.lists(recorded_steps, max_size=3).map(tuple),
        st.lists(envelopes, max_size=3).map(tuple),
    ),
    Recorded: st.builds(Recorded, st.lists(numbers, max_size=5).map(tuple)),
    StepChanged: st.builds(StepChanged, numbers, recorded_steps),
    Evict: st.builds(Evict, numbers),
    Resume: st.builds(Resume, numbers),
    ShutDown: st.builds(ShutDown),
}
FOR_ENGINE: dict[type[Any], st.SearchStrategy[Any]] = {
    Described: st.builds(Described, st.lists(specs, max_size=2).map(tuple), texts),
    LoadFailed: st.builds(LoadFailed, texts, maybe_text),
    StepRunning: st.builds(StepRunning, amounts, texts, texts, amounts, amounts),
    StepCompleted: st.builds(
        StepCompleted,
        amounts,
        amounts,
        texts,
        texts,
        amounts,
        amounts,
        texts,
        amounts,
        amounts,
        kinds,
        st.lists(sent_events, max_size=3).map(tuple),
    ),
    StepFailed: st.builds(
        StepFailed,
        amounts,
        texts,
        texts,
        amounts,
        amounts,
        failures,
        amounts,
        amounts,
        st.booleans(),
        maybe_amount,
        kinds,
    ),
    StepWaits: st.builds(StepWaits, amounts, texts, texts, amounts, amounts, st.one_of(list(AWAITED.values()))),
    MapItems: st.builds(
        MapItems, amounts, texts, amounts, st.lists(st.tuples(texts, maybe_text), max_size=4).map(tuple), st.booleans()
    ),
    Parked: st.builds(Parked, amounts, some_texts),
    Unpark: st.builds(Unpark, amounts),
    RunCompleted: st.builds(RunCompleted, amounts, texts, some_texts),
    RunFailed: st.builds(RunFailed, amounts, failures, st.booleans(), maybe_amount),
    RunEvicted: st.builds(RunEvicted, amounts),
}
to_worker = st.lists(st.one_of(list(FOR_WORKERS.values())), max_size=4)
to_engine = st.lists(st.one_of(list(FOR_ENGINE.values())), max_size=4)


def bodies(pieces: Iterable[bytes | bytearray]) -> list[bytes]:
    reader = FrameReader()
    return [body for piece in pieces for body in reader.feed(bytes(piece))]


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def test_each_message_is_a_member_of_the_union_of_its_direction() -> None:
    messages = {
        each
        for _, each in inspect.getmembers(protocol, inspect.isclass)
        if each.__module__ == protocol.__name__
        and issubclass(each, msgspec.Struct)
        and each.__struct_config__.tag is not None
    }
    assert set(get_args(ToWorker)) == set(FOR_WORKERS)
    assert set(get_args(ToEngine)) == set(FOR_ENGINE)
    assert set(get_args(FromExecution)) == set(FOR_ENGINE) - {Described, LoadFailed}
    assert set(get_args(Awaited)) == set(AWAITED)
    assert messages == set(FOR_WORKERS) | set(FOR_ENGINE) | set(AWAITED)
    tags = [each.__struct_config__.tag for each in messages]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("kind", FOR_WORKERS)
def test_a_message_to_a_worker_comes_back_as_it_was(kind: type[Any]) -> None:
    @settings(max_examples=25)
    @given(FOR_WORKERS[kind])
    def comes_back(message: ToWorker) -> None:
        assert to_worker_decoder.decode(bytes(frame([message])[HEADER:])) == [message]

    comes_back()


@pytest.mark.parametrize("kind", FOR_ENGINE)
def test_a_message_to_the_engine_comes_back_as_it_was(kind: type[Any]) -> None:
    @settings(max_examples=25)
    @given(FOR_ENGINE[kind])
    def comes_back(message: ToEngine) -> None:
        assert to_engine_decoder.decode(bytes(frame([message])[HEADER:])) == [message]

    comes_back()


@pytest.mark.parametrize("kind", AWAITED)
def test_what_a_step_waits_for_comes_back_as_it_was(kind: type[Any]) -> None:
    @settings(max_examples=25)
    @given(AWAITED[kind])
    def comes_back(awaited: Awaited) -> None:
        message = StepWaits(1, "s", "", 1, 2, awaited)
        assert to_engine_decoder.decode(bytes(frame([message])[HEADER:])) == [message]

    comes_back()


def test_every_message_of_an_execution_says_whose_it_is() -> None:
    """Under a claim that is not held any more it is stale, whatever it says."""
    assert [each for each in get_args(FromExecution) if each.__struct_fields__[0] != "claim"] == []


@pytest.mark.parametrize("state", StepState)
@pytest.mark.parametrize("due_at", [None, 5])
def test_a_step_is_open_while_it_waits_for_something_that_has_not_come(state: StepState, due_at: int | None) -> None:
    step = RecordedStep("s", "", state, 1, None, None, due_at)
    assert step.is_open is (state is StepState.WAITING or (state is StepState.RETRYING and due_at is not None))


TEXTS = ["", "näyttö", "日本語", "🧪\u200d🔬", "\0", "\u2028\r\n", "\U0010ffff", "e\u0301"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_any_script_passes_both_ways(text: str) -> None:
    start = Start(1, "r", text, 0, ("e", text, 0, f'"{text}"', text, None))
    end = RunCompleted(1, text)
    assert to_worker_decoder.decode(bytes(frame([start])[HEADER:])) == [start]
    assert to_engine_decoder.decode(bytes(frame([end])[HEADER:])) == [end]


@settings(max_examples=50)
@given(st.lists(to_engine, max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_cut_anywhere_arrive_whole_and_in_order(sent: list[list[ToEngine]], places: list[int]) -> None:
    stream = b"".join(frame(messages) for messages in sent)
    received = bodies(cut(stream, places))
    assert [to_engine_decoder.decode(body) for body in received] == sent


@settings(max_examples=50)
@given(to_worker)
def test_a_frame_is_a_length_and_one_list(messages: list[ToWorker]) -> None:
    sent = bytes(frame(messages))
    assert int.from_bytes(sent[:HEADER], "big") == len(sent) - HEADER
    assert to_worker_decoder.decode(sent[HEADER:]) == messages


def test_a_frame_arrives_with_its_last_byte_and_not_before() -> None:
    stream = bytes(frame([Evict(1)]) + frame([Evict(2)]))
    reader = FrameReader()
    arrived = {}
    for place in range(len(stream)):
        if found := reader.feed(stream[place : place + 1]):
            arrived[place] = [to_worker_decoder.decode(body) for body in found]
    assert arrived == {len(stream) // 2 - 1: [[Evict(1)]], len(stream) - 1: [[Evict(2)]]}


def test_feeding_nothing_gives_nothing() -> None:
    reader = FrameReader()
    assert reader.feed(b"") == []
    assert reader.feed(b"\0\0\0") == []
    assert reader.feed(b"") == []
    assert reader.feed(b"\0") == [b""]


def test_a_large_frame_between_small_ones_in_pieces_of_a_socket() -> None:
    large = RunCompleted(2, "x" * 1_000_000)
    stream = bytes(frame([RunEvicted(1)]) + frame([large]) + frame([RunEvicted(3)]))
    pieces = [stream[place : place + 65_536] for place in range(0, len(stream), 65_536)]
    assert [to_engine_decoder.decode(body) for body in bodies(pieces)] == [[RunEvicted(1)], [large], [RunEvicted(3)]]


@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode([[99, 1]]), msgspec.msgpack.encode([[23, "x"]])])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        to_engine_decoder.decode(body)


def test_messages_of_one_direction_are_not_taken_in_the_other() -> None:
    with pytest.raises(msgspec.ValidationError):
        to_engine_decoder.decode(bytes(frame([Evict(1)])[HEADER:]))
    with pytest.raises(msgspec.ValidationError):
        to_worker_decoder.decode(bytes(frame([RunEvicted(1)])[HEADER:]))
