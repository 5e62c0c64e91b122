"""The package's own synthetic drive: seeded road scenes with depth, labels and boxes."""

from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.frame import CLASSES, Box, Frame

__all__ = ["CLASSES", "Box", "Drive", "Frame"]
