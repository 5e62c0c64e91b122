"""The node: everything of this package that knows ROS 2."""
