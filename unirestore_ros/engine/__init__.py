"""Bundles and the backends that run them: numpy only, no PyTorch and no ROS."""

from unirestore_ros.engine.bundle import BundleError, InferenceError
from unirestore_ros.engine.engine import Engine, EngineOutput, open_engine

__all__ = ["BundleError", "Engine", "EngineOutput", "InferenceError", "open_engine"]
