"""A progress bar for TensorRT's nested build phases."""

from __future__ import annotations

import dataclasses
import threading

from tqdm import tqdm

_TICKS = 1000


@dataclasses.dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """What an IProgressMonitor receives, from any thread. Each outermost phase fills the bar; a
    phase within a phase fills the step that the outer one is at."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        form = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
        self._bar = tqdm(total=_TICKS, desc=title, bar_format=form)
        self.cancelled = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        with self._lock:
            if parent_phase is None and self.fraction() == 1:
                self._phases.clear()
                self._bar.reset()
            if parent_phase is None:
                self._bar.set_description(f"{self._title}: {phase_name}", refresh=False)
            self._phases[phase_name] = _Phase(parent_phase, max(num_steps, 1))
            self._show()

    def step_complete(self, phase_name: str, step: int) -> bool:
        """False, after a Ctrl-C, asks TensorRT to stop."""
        with self._lock:
            if phase_name in self._phases:
                self._phases[phase_name].done = step + 1
                self._show()
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        with self._lock:
            phase = self._phases.get(phase_name)
            if phase is not None:
                phase.done = phase.steps
                self._show()
                if phase.parent is not None:
                    del self._phases[phase_name]

    def fraction(self) -> float:
        """Done of all outermost phases that have begun, 0 to 1."""
        outermost = [name for name, phase in self._phases.items() if phase.parent is None]
        return sum(map(self._fraction_of, outermost)) / max(len(outermost), 1)

    def close(self) -> None:
        self._bar.close()

    def _fraction_of(self, name: str) -> float:
        phase = self._phases[name]
        within = [
            self._fraction_of(child)
            for child, other in self._phases.items()
            if other.parent == name
        ]
        part = min(sum(within) / len(within), 1.0) if within and phase.done < phase.steps else 0.0
        return min((phase.done + part) / phase.steps, 1.0)

    def _show(self) -> None:
        """Never backwards, as a second outermost phase would have it; drawn ten times a second at
        most, so that a build whose output goes to a file leaves lines, not megabytes."""
        self._bar.update(max(int(_TICKS * self.fraction()) - self._bar.n, 0))
