"""The probes of `make gpu`, as far as they run without a GPU."""

from __future__ import annotations

from pathlib import Path

from unirestore_ros.evaluate.gpu_probes import measure

TINY = Path(__file__).parents[2] / "engines" / "tiny"


def test_parts_are_compared_with_the_reference_at_its_size() -> None:
    """At another size, as a frame of 480x368 has by the rule, they reach 30 dB."""
    answer = measure(str(TINY), "onnxruntime", "2")
    assert min(answer["psnr_to_fp32_db"].values()) > 60
    assert answer["same_bits"] and answer["outputs"] == 3
