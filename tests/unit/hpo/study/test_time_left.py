"""The time left, from hand-made histories."""

import pytest

from hpo.search.expected_epochs import NOTHING, EpochRange
from hpo.store.activity import RecentEpoch
from hpo.study.time_left import NONE_LEFT, Pace, TimeLeft, Work, estimate, paces, range_text, together


def epoch(age: float, worker: str = "one", seconds: float = 1.0) -> RecentEpoch:
    return RecentEpoch(1, 0, 1, worker, seconds, age)


def work(epochs: float, trials: int = 100, longest: float = 0.0) -> Work:
    return Work(EpochRange(epochs, epochs, epochs), trials, longest)


def test_pace_is_that_of_the_wall_clock_between_packs() -> None:
    # Packs of two epochs, every four seconds; the first pack began at an unknown time.
    recent = [epoch(age) for age in (8.002, 8.0, 4.001, 4.0, 0.001, 0.0)]
    pace = paces(recent)["one"]
    assert pace.per_second == pytest.approx(0.5, rel=1e-3)
    assert pace.epochs == 6


def test_single_pack_tells_its_device_seconds() -> None:
    recent = [epoch(0.5, seconds=3.0), epoch(0.5, seconds=3.0)]
    assert paces(recent) == {"one": Pace(2 / 6, 2)}


def test_clock_runs_on_while_a_worker_is_silent() -> None:
    regular = paces([epoch(age) for age in (12.0, 11.0, 10.0)])["one"]
    assert regular.per_second == pytest.approx(2 / 11)
    just_now = paces([epoch(age) for age in (2.5, 1.5, 0.5)])["one"]
    assert just_now.per_second == pytest.approx(1.0)
    single = paces([epoch(100.0, seconds=2.0)])["one"]
    assert single.per_second == pytest.approx(1 / 100)


def test_each_worker_has_a_pace_of_its_own() -> None:
    recent = [epoch(4.0), epoch(3.0, "two"), epoch(2.0), epoch(1.0, "two"), epoch(0.0)]
    measured = paces(recent)
    assert measured["one"].per_second == pytest.approx(0.5)
    assert measured["two"].per_second == pytest.approx(0.5)


def test_only_the_newest_epochs_count() -> None:
    slow, fast = (
        [epoch(1000.0 + 10 * i) for i in range(100, 0, -1)],
        [epoch(i * 0.1) for i in range(99, -1, -1)],
    )
    assert paces([*slow, *fast])["one"].per_second == pytest.approx(10.0)


def test_no_epoch_has_no_pace() -> None:
    assert paces([]) == {}
    assert paces([epoch(0.0, seconds=0.0)]) == {}


def test_workers_share_the_work() -> None:
    one = estimate(work(60), {"one": Pace(1.0, 60)})
    assert one == TimeLeft(60, 60, 60, "from the last 60 epochs of 1 worker")
    two = estimate(work(60), {"one": Pace(1.0, 60), "two": Pace(3.0, 60)})
    assert two == TimeLeft(15, 15, 15, "from the last 120 epochs of 2 workers")


def test_worker_without_an_epoch_counts_as_an_average_one() -> None:
    left = estimate(work(60), {"one": Pace(1.0, 1), "new": None})
    assert (left.seconds, left.basis) == (30, "from the last epoch of 1 worker")


def test_fewer_trials_than_workers_keep_some_workers_idle() -> None:
    both = {"one": Pace(1.0, 9), "two": Pace(1.0, 9)}
    assert estimate(work(60, trials=1), both).seconds == 60
    assert estimate(work(60, trials=2, longest=50), both).seconds == 50


def test_scale_of_longer_epochs() -> None:
    assert estimate(work(60), {"one": Pace(1.0, 9)}, scale=10).seconds == 600


def test_what_is_not_known_is_said() -> None:
    assert estimate(work(60), {}) == TimeLeft(None, None, None, "no worker is running")
    unknown = estimate(work(60), {"one": None})
    assert unknown == TimeLeft(None, None, None, "no worker has finished an epoch yet")
    assert unknown.describe() == "unknown"
    assert estimate(Work(NOTHING), {}) == NONE_LEFT


def test_stages_follow_each_other() -> None:
    first, second = TimeLeft(10, 5, 20, "a"), TimeLeft(1, 1, 2, "b")
    assert together(first, second) == TimeLeft(11, 6, 22, "a")
    assert together(NONE_LEFT, second) == second
    assert together(first, NONE_LEFT) == first
    unknown = TimeLeft(None, None, None, "no worker is running")
    assert together(first, unknown) == together(unknown, first) == unknown


def test_limit_of_device_hours_caps_the_time() -> None:
    assert TimeLeft(10, 5, 20, "a").capped(8) == TimeLeft(8, 5, 8, "a")
    assert TimeLeft(None, None, None, "a").capped(8) == TimeLeft(None, None, None, "a")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (240, 540, "4 to 9 min"),
        (40, 120, "40 s to 2 min"),
        (100, 101, "about 1.7 min"),
        (0, 240, "at most 4 min"),
        (3000, 5400, "50 min to 1.5 h"),
        (90000, 200000, "1 to 2.3 days"),
    ],
)
def test_range_in_words(low: float, high: float, words: str) -> None:
    assert range_text(low, high) == words


def test_narrow_range_is_one_number() -> None:
    assert TimeLeft(100, 95, 110, "").describe() == "about 1.7 min"
    assert TimeLeft(100, 60, 180, "").describe() == "1 to 3 min"
