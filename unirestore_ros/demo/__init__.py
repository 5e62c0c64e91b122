"""The demonstration: a drive played through the real node over DDS, and what came out of it."""
