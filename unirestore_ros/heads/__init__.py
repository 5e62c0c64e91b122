"""Example nodes that consume the feature topics: read them, copy one, and write your own."""
