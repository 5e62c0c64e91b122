"""Quality of restoration against clean frames, for every corruption, as JSON and as a table."""
