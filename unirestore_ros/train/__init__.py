"""Training: stage 0 (the backbone of `tiny`), 1 (restoration), 2 (tasks), 3 (one added prompt)."""
