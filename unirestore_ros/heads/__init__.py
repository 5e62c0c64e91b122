"""Example consumers of the feature topics, meant to be read by who writes their own."""
