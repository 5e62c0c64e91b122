"""UniRestore as a ROS 2 node: restored images for the driver, adapted features for the machine."""

__version__ = "0.1.0"
