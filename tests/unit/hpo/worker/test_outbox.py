"""Deliveries in order, on a thread, through outages of the storage."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hpo.errors import StorageError, UnavailableError
from hpo.store.retry import Backoff
from hpo.worker.outbox import Outbox

LONG = 30.0
"""Seconds within which all is delivered, even on a busy machine."""


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """An open outbox that retries at once."""
    with Outbox(Backoff(first=1e-6, longest=1.0)) as opened:
        yield opened


class Delivery:
    """A delivery that raises `error` while it is set, and otherwise adds its name to `record`."""

    def __init__(self, record: list[str], name: str, error: Exception | None = None) -> None:
        self.record, self.name, self.error = record, name, error
        self.failed = threading.Event()

    def __call__(self) -> None:
        if self.error is not None:
            self.failed.set()
            raise self.error
        self.record.append(self.name)


AWAY = UnavailableError("it is away")


def test_deliveries_run_in_order_on_another_thread(outbox: Outbox) -> None:
    record: list[tuple[int, str]] = []

    def note(number: int) -> None:
        record.append((number, threading.current_thread().name))

    for number in range(200):
        outbox.post(partial(note, number))
    assert outbox.wait(LONG)
    assert record == [(number, "outbox") for number in range(200)]
    assert outbox.reachable


def test_later_deliveries_wait_for_a_failing_one(outbox: Outbox) -> None:
    record: list[str] = []
    first = Delivery(record, "first", AWAY)
    outbox.post(first)
    outbox.post(Delivery(record, "second"))
    assert first.failed.wait(LONG)
    assert not outbox.wait(0)
    assert record == []
    first.error = None
    assert outbox.wait(LONG)
    assert record == ["first", "second"]


def test_wait_lasts_until_all_is_delivered(outbox: Outbox) -> None:
    calls = iter(range(100))
    delivered = threading.Event()

    def fails_a_few_times() -> None:
        if next(calls) < 12:
            raise AWAY
        delivered.set()

    outbox.post(fails_a_few_times)
    assert outbox.wait(LONG)
    assert delivered.is_set()
    assert outbox.reachable


def test_flush_gives_up_while_the_storage_cannot_be_reached(outbox: Outbox) -> None:
    record: list[str] = []
    delivery = Delivery(record, "one", AWAY)
    outbox.post(delivery)
    assert not outbox.flush(threading.TIMEOUT_MAX)
    assert delivery.failed.is_set()
    assert not outbox.reachable
    outbox.post(Delivery(record, "two"))
    assert not outbox.flush(threading.TIMEOUT_MAX)
    delivery.error = None
    assert outbox.wait(LONG)
    assert outbox.flush(threading.TIMEOUT_MAX)
    assert outbox.reachable


def test_flush_waits_once_for_a_silent_storage(outbox: Outbox) -> None:
    go_on = threading.Event()

    def deliver() -> None:
        go_on.wait(LONG)

    outbox.post(deliver)
    assert not outbox.flush(0)
    assert not outbox.flush(LONG)  # does not wait
    assert not outbox.reachable
    go_on.set()
    assert outbox.wait(LONG)
    assert outbox.reachable
    outbox.post(lambda: None)
    assert outbox.flush(LONG)


@pytest.mark.parametrize("error", [StorageError("refused"), ValueError("a mistake"), SystemExit("an end")])
@pytest.mark.parametrize(
    "call",
    [lambda box: box.post(print), lambda box: box.flush(LONG), lambda box: box.wait(LONG)],
    ids=["post", "flush", "wait"],
)
def test_other_error_ends_the_outbox_and_is_raised_by_every_call(
    outbox: Outbox, error: Exception, call: Callable[[Outbox], object]
) -> None:
    record: list[str] = []
    outbox.post(Delivery(record, "one", error))
    with pytest.raises(type(error)) as caught:
        outbox.wait(LONG)
    assert caught.value is error
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            call(outbox)
        assert caught.value is error
    assert record == []


def test_delivery_may_post_another_delivery(outbox: Outbox) -> None:
    record: list[str] = []

    def post_another() -> None:
        record.append("one")
        outbox.post(Delivery(record, "two"))

    outbox.post(post_another)
    assert outbox.wait(LONG)
    assert record == ["one", "two"]


def test_closing_does_not_wait_for_the_storage() -> None:
    record: list[str] = []
    delivery = Delivery(record, "one", AWAY)
    with Outbox(Backoff(first=1000, longest=1000)) as outbox:
        outbox.post(delivery)
        outbox.post(Delivery(record, "two"))
        assert delivery.failed.wait(LONG)
    assert not any(thread.name == "outbox" for thread in threading.enumerate())
    assert record == []


def test_closing_lets_the_current_delivery_finish() -> None:
    record: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go_on.wait(LONG)
        record.append("slow")

    with Outbox() as outbox:
        outbox.post(slow)
        assert begun.wait(LONG)
        go_on.set()
    assert record == ["slow"]


def test_error_of_the_block_is_raised() -> None:
    def fail() -> None:
        with Outbox():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_delivery_numbers_rise_across_processes() -> None:
    numbers = [Outbox().next_number()]
    later = Outbox()  # of the same name, in a container say
    numbers += [later.next_number() for _ in range(100)]
    assert numbers == sorted(set(numbers))
