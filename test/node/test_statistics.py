"""Windows of the last seconds, and counts."""

from __future__ import annotations

import time

import numpy as np

from unirestore_ros.node.statistics import Drop, Statistics


def test_values() -> None:
    statistics = Statistics()
    now = time.monotonic()
    for latency in np.arange(10.0, 20.0):
        statistics.count_arrival(now)
        statistics.count_published(latency, latency + 5)
        statistics.count_inference(latency - 5)
    for cause in (Drop.REPLACED, Drop.REPLACED, Drop.TOO_OLD):
        statistics.count_drop(cause)
    values = statistics.values()
    assert values["latency_median_ms"] == "14.5" and values["age_median_ms"] == "19.5"
    assert values["inference_median_ms"] == "9.5" and values["latency_p99_ms"] == "18.9"
    assert (values["dropped_replaced"], values["dropped_too_old"]) == ("2", "1")
    assert (values["dropped_malformed"], values["dropped_failed"]) == ("0", "0")


def test_recent_drops_name_what_should_not_be() -> None:
    statistics = Statistics()
    statistics.count_drop(Drop.REPLACED)
    assert statistics.recent_drops() is None
    statistics.count_drop(Drop.TOO_OLD)
    statistics.count_drop(Drop.MALFORMED)
    assert statistics.recent_drops() == "frames were dropped: too old, malformed"
