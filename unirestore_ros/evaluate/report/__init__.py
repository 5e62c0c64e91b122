"""The page on quality, written from the files that evaluations left."""
