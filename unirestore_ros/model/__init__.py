"""The UniRestore network, in torch and diffusers (arXiv 2501.13134, CVPR 2025)."""

from unirestore_ros.model.config import PRESETS, SD_TURBO, TINY, Config
from unirestore_ros.model.unirestore import UniRestore

__all__ = ["PRESETS", "SD_TURBO", "TINY", "Config", "UniRestore"]
