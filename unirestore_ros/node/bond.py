"""The bond with Nav2's lifecycle manager: a heartbeat by which it sees that the node lives."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode

# As Nav2's own nodes have them: the manager looks on this topic, for bonds with the node's name.
_TOPIC = "bond"
_PERIOD_S = 0.1
_TIMEOUT_S = 4.0


def start_bond(node: LifecycleNode) -> Any | None:
    """Start a bond; end it with its ``shutdown()``. None where bondpy is not installed: the manager
    then needs ``bond_timeout: 0.0``."""
    try:
        from bondpy.bondpy import Bond
    except ModuleNotFoundError:
        return None
    bond = Bond(node, _TOPIC, node.get_name())
    bond.set_heartbeat_period(_PERIOD_S)
    bond.set_heartbeat_timeout(_TIMEOUT_S)
    bond.start()
    return bond
