"""Speed: of the engine's parts against the published way, and of the node over DDS."""
