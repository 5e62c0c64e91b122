"""Networks that `evaluate` compares UniRestore with: rivals of equal compute, and ablations."""
