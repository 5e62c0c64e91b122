"""Fit the guard's network, and say what it catches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unirestore_ros.evaluate.guard_pairs import GOOD, Samples
from unirestore_ros.node.guard import FEATURES, SUSPICIOUS, GuardModel

_INPUTS = 3 * FEATURES
_GOOD_A_STEP, _BAD_A_STEP = 32, 64
_WORST_CELLS = 6
"""Cells of a good frame that are learnt from: those that come nearest to being refused."""
_GOOD_WEIGHT = 3.0
_LARGEST_GAIN = 3.0
"""By how much errors are amplified at most, so that also larger ones are learnt: e to the 3rd."""


class _Network(nn.Module):
    """The graph of ``GuardModel.logits``, for training."""

    def __init__(self, centre: Tensor, scale: Tensor, hidden: int) -> None:
        super().__init__()
        self.centre, self.scale = centre, scale
        self.hidden = nn.Linear(_INPUTS, hidden)
        self.output = nn.Linear(hidden, 1, bias=False)
        self.direct = nn.Linear(_INPUTS, 1)

    def forward(self, cells: Tensor, of_frame: Tensor) -> Tensor:
        """(..., FEATURES) and (..., 2 * FEATURES), which broadcast -> (...)."""
        own = (cells - self.centre[:FEATURES]) / self.scale[:FEATURES]
        shared = (of_frame - self.centre[FEATURES:]) / self.scale[FEATURES:]
        # A frame's statistics are weighed once, not for each of its cells.
        hidden = functional.linear(own, self.hidden.weight[:, :FEATURES])
        hidden = hidden + self._shared(self.hidden, shared)
        direct = functional.linear(own, self.direct.weight[:, :FEATURES])
        direct = direct + self._shared(self.direct, shared)
        logits: Tensor = (self.output(functional.relu(hidden)) + direct).squeeze(-1)
        return logits

    @staticmethod
    def _shared(layer: nn.Linear, of_frame: Tensor) -> Tensor:
        return functional.linear(of_frame, layer.weight[:, FEATURES:], layer.bias)

    def model(self) -> GuardModel:
        def array(tensor: Tensor) -> NDArray[np.float32]:
            return tensor.detach().numpy().astype(np.float32)

        return GuardModel(
            array(self.centre), array(self.scale), array(self.hidden.weight.T),
            array(self.hidden.bias), array(self.output.weight[0]), array(self.direct.weight[0]),
            float(self.direct.bias.detach()),
        )  # fmt: skip


def fit(samples: Samples, epochs: int, hidden: int, seed: int = 0) -> GuardModel:
    """Learn which cells betray an error. Of a frame with one, the most suspect cell within it
    must be over 0; of a good frame, the most suspect cells must be under it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cells = samples.cells.reshape(len(samples.kinds), -1, FEATURES)
    of_frame = _of_frames(cells)
    network = _Network(*_normalisation(cells, of_frame, rng), hidden)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    good, bad = np.flatnonzero(samples.kinds == GOOD), np.flatnonzero(samples.kinds != GOOD)
    steps = epochs * (len(bad) // _BAD_A_STEP)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 1e-5)
    inside = samples.inside.reshape(len(samples.kinds), -1)
    for _ in range(epochs):
        order = rng.permutation(bad)
        for start in range(0, len(bad) - _BAD_A_STEP + 1, _BAD_A_STEP):
            chosen = order[start : start + _BAD_A_STEP]
            found = _suspicion(network, cells, of_frame, inside, chosen, rng)
            calm = _worst_of_good(network, cells, of_frame, rng.choice(good, _GOOD_A_STEP))
            loss = functional.softplus(-found).mean()
            loss = loss + _GOOD_WEIGHT * functional.softplus(calm).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
    return network.model()


def _of_frames(cells: NDArray[np.float16]) -> NDArray[np.float32]:
    """(n,c,FEATURES) -> (n, 2 * FEATURES): mean and standard deviation, as the guard takes them."""
    rows = [np.concatenate([c.mean(0), c.std(0)]) for c in (c.astype(np.float32) for c in cells)]
    return np.stack(rows).astype(np.float32)


def _normalisation(
    cells: NDArray[np.float16], of_frame: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    some = cells[rng.choice(len(cells), min(300, len(cells)), replace=False)]
    flat = some.reshape(-1, FEATURES).astype(np.float32)
    centre = np.concatenate([flat.mean(0), of_frame.mean(0)])
    scale = np.concatenate([flat.std(0), of_frame.std(0)]) + 1e-2
    return torch.from_numpy(centre), torch.from_numpy(scale.astype(np.float32))


def _suspicion(
    network: _Network, cells: NDArray[np.float16], of_frame: NDArray[np.float32],
    inside: NDArray[np.bool_], chosen: NDArray[np.intp], rng: np.random.Generator,
) -> Tensor:  # fmt: skip
    """The highest logit within each chosen frame's error."""
    inputs, frames, counts = [], [], []
    for i in chosen:
        where = np.flatnonzero(inside[i])
        where = where if len(where) <= 300 else rng.choice(where, 300, replace=False)
        # Statistics are logarithms: what is added amplifies the error.
        gain = rng.choice((0.0, rng.uniform(0, _LARGEST_GAIN))) * SUSPICIOUS
        inputs.append((cells[i, where] + gain).astype(np.float32))
        frames.append(np.repeat(of_frame[i][None], len(where), 0))
        counts.append(len(where))
    logits = network(
        torch.from_numpy(np.concatenate(inputs)), torch.from_numpy(np.concatenate(frames))
    )
    return torch.stack([part.max() for part in logits.split(counts)])


def _worst_of_good(
    network: _Network, cells: NDArray[np.float16], of_frame: NDArray[np.float32],
    chosen: NDArray[np.intp],
) -> Tensor:  # fmt: skip
    own = torch.from_numpy(cells[chosen].astype(np.float32))
    shared = torch.from_numpy(of_frame[chosen])[:, None]
    with torch.no_grad():
        logits = network(own, shared)
        worst = logits.topk(_WORST_CELLS, 1).indices
    picked = torch.gather(own, 1, worst[..., None].expand(-1, -1, FEATURES))
    result: Tensor = network(picked, shared)
    return result


def frame_logits(model: GuardModel, samples: Samples) -> NDArray[np.float32]:
    """(n,): the highest logit of each frame."""
    return np.array([model.logits(c.astype(np.float32)).max() for c in samples.cells], np.float32)


def report(samples: Samples, logits: NDArray[np.float32]) -> dict[str, Any]:
    """Fractions of good frames refused and of errors caught, by kind and by condition."""
    good = samples.kinds == GOOD
    refused = logits >= 0
    kinds = [str(kind) for kind in dict.fromkeys(samples.kinds) if kind != GOOD]
    by_condition = {}
    for name in dict.fromkeys(samples.conditions):
        here = samples.conditions == name
        by_condition[str(name)] = {
            "refused": _fraction(refused[here & good]),
            **{kind: _fraction(refused[here & (samples.kinds == kind)]) for kind in kinds},
        }
    return {
        "good_frames": int(good.sum()),
        "refused": _fraction(refused[good]),
        "errors": int((~good).sum()),
        "caught": _fraction(refused[~good]),
        "by_kind": {kind: _fraction(refused[samples.kinds == kind]) for kind in kinds},
        "by_condition": by_condition,
        "roc": {kind: _roc(logits[good], logits[samples.kinds == kind]) for kind in kinds},
    }


ROC_AT = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of good frames refused at which a curve is sampled."""


def _roc(good: NDArray[np.float32], bad: NDArray[np.float32]) -> list[float | None]:
    """Errors caught where each of ``ROC_AT`` of good frames is refused."""
    return [_fraction(bad > np.quantile(good, 1 - share)) for share in ROC_AT]


def _fraction(flags: NDArray[np.bool_]) -> float | None:
    return round(float(flags.mean()), 4) if len(flags) else None
