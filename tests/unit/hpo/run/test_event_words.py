"""Events in words."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from support.live import events_of

from hpo.run.event_words import WORDS, event_lines, worker_label
from hpo.store.events import Kind


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("claimed", {}, "trial 3 began on cpu/0"),
        ("resumed", {"epoch": 2}, "trial 3 resumed after epoch 2 on cpu/0"),
        ("taken over", {"epoch": 4}, "trial 3 taken over by cpu/0, from epoch 4"),
        ("taken over", {}, "trial 3 taken over by cpu/0, from the start"),
        ("paused", {"epoch": 2}, "trial 3 paused after epoch 2"),
        ("released", {}, "trial 3 put back into the queue by cpu/0"),
        ("handed back", {"reason": "OSError: full"}, "trial 3 runs alone next: OSError: full"),
        ("lost", {}, "trial 3 lost the worker cpu/0"),
        ("completed", {"epochs": 1}, "trial 3 completed after 1 epoch"),
        ("pruned", {"epochs": 8}, "trial 3 pruned after 8 epochs"),
        ("failed", {"reason": "epoch 1: {nan}"}, "trial 3 failed: epoch 1: {nan}"),
        ("promoted", {"full": [0, 1]}, "trial 3 promoted to full training"),
        ("tested", {"trials": [3], "n": 360}, "trial 3 tested on the test part"),
        ("exported", {"directory": "/best"}, "trial 3 exported to /best"),
        ("of a later version", {"epoch": 2}, "trial 3 of a later version"),
        ("completed", {}, "trial 3 completed"),
    ],
)
def test_each_event_is_a_sentence(kind: str, detail: Mapping[str, Any], words: str) -> None:
    (line,) = event_lines(events_of("search", [(3, kind, detail)]))
    assert line == f"03:04:05  {words}"


def test_every_kind_has_words() -> None:
    assert WORDS.keys() == set(get_args(Kind))


def test_events_that_say_the_same_are_one_line() -> None:
    events = events_of("search", [(n, "claimed", {}) for n in (3, 4, 7)])
    assert event_lines(events) == ["03:04:07  trials 3, 4 and 7 began on cpu/0"]
    many = events_of("full", [(n, "pruned", {"epochs": 2}) for n in range(12)])
    assert event_lines(many) == ["03:04:16  12 full trainings pruned after 2 epochs"]
    promoted = events_of("search", [(n, "promoted", {"full": [2 * n, 2 * n + 1]}) for n in (0, 1)])
    assert event_lines(promoted) == ["03:04:06  trials 0 and 1 promoted to full training"]
    alone = events_of("search", [(1, "handed back", {"reason": "a"}), (2, "handed back", {"reason": "a"})])
    assert event_lines(alone) == ["03:04:06  trials 1 and 2 run alone next: a"]
    others = events_of("search", [(1, "paused", {"epoch": 2}), (2, "paused", {"epoch": 4})])
    assert len(event_lines(others)) == 2


def test_worker_of_a_launcher_is_known_by_its_slot() -> None:
    assert worker_label("gpu0+1/3-0123abcd") == "gpu0+1/3"
    assert worker_label("host-1234") == "host-1234"
