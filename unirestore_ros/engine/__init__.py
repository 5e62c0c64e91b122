"""Bundles and the backends that run them: numpy only, no PyTorch and no ROS."""

from unirestore_ros.engine.engine import Engine, open_engine
from unirestore_ros.engine.errors import BundleError, InferenceError

__all__ = ["BundleError", "Engine", "InferenceError", "open_engine"]
