"""What this machine has and lacks for the node, and what to do about it."""
