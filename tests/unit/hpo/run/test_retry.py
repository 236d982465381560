from collections.abc import Iterator

import pytest

from hpo.errors import AwayError
from hpo.run.retry import until_readable

AWAY = AwayError("w.safetensors: cannot read")


def test_export_waits_for_weights_that_are_away(caplog: pytest.LogCaptureFixture) -> None:
    waits: list[float] = []
    answers: Iterator[AwayError | int] = iter([AWAY, AWAY, 7])

    def export() -> int:
        answer = next(answers)
        if isinstance(answer, AwayError):
            raise answer
        return answer

    assert until_readable(export, sleep=waits.append) == 7
    assert waits == [1, 1]
    assert caplog.messages == ["waiting for the weights: w.safetensors: cannot read"]


def test_export_raises_when_the_weights_stay_away(caplog: pytest.LogCaptureFixture) -> None:
    def export() -> None:
        raise AWAY

    with pytest.raises(AwayError, match=r"w\.safetensors"):
        until_readable(export, seconds=0)
    assert caplog.messages == []
