"""What the engine raises: one line each, fit for a diagnostics message."""

from __future__ import annotations


class BundleError(Exception):
    """A bundle, prompt or backend that is refused: which field or file, and what mends it."""

    def __init__(self, problem: str, mend: str | None = None) -> None:
        """``mend``: the command, or the deed, that mends it."""
        self.problem = " ".join(problem.split())
        self.mend = mend
        super().__init__(f"{self.problem}; mend it: {mend}" if mend else self.problem)


class InferenceError(RuntimeError):
    """A part of the network failed while it ran."""


def build_command(recipe: str, *options: str) -> str:
    return " ".join(("python -m unirestore_ros build", recipe, *options))
