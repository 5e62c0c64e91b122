"""Convert `sensor_msgs` to pixels and back, and choose how they travel over DDS."""
