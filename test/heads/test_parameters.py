"""The file that documents the heads' parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros_parameter_file import check_agrees

from unirestore_ros.heads import detection_head, segmentation_head
from unirestore_ros.msgs.parameter_struct import NodeParameters


@pytest.mark.parametrize(
    ("node", "defaults"),
    [
        ("segmentation_head", segmentation_head.Parameters()),
        ("detection_head", detection_head.Parameters()),
    ],
)
def test_file_documents_every_parameter(
    repository: Path, node: str, defaults: NodeParameters
) -> None:
    check_agrees(repository / "config" / "heads.yaml", defaults, f"/**/{node}")
