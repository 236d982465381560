import json
import math

from hypothesis import given
from hypothesis import strategies as st

from hpo.store.records import decode_metrics, encode_metrics


@given(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False)))
def test_metrics_are_read_back_exactly(metrics: dict[str, float]) -> None:
    text = encode_metrics(metrics)
    assert "Infinity" not in text
    assert {k: v.hex() for k, v in decode_metrics(json.loads(text)).items()} == {
        k: v.hex() for k, v in metrics.items()
    }


def test_nan_is_read_back() -> None:
    assert math.isnan(decode_metrics(json.loads(encode_metrics({"loss": math.nan})))["loss"])
