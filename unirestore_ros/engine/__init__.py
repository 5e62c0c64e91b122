"""Bundles and the backends that run them: numpy only, no PyTorch and no ROS."""

from unirestore_ros.engine.bundle import BundleError, InferenceError
from unirestore_ros.engine.engine import Engine, open_engine

__all__ = ["BundleError", "Engine", "InferenceError", "open_engine"]
