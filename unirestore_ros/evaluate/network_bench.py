"""The published size on a CPU: the published way of computing it, and our parts beside it.

The published way is the same function and the same weights; what ours collapses is written out as
it is there: each gate's second 3x3 convolution at the skip's resolution before its average, the
attention of the CFRM multiplied in twice, the posterior's deviation, the image resized at the end
at any size. Written from the facts of github.com/unirestore/UniRestore (src/modules/diffuie).

A bundle of this size is some gigabytes for each stride and precision, so none is written: our parts
are the modules that `build` exports, here with up-sampling as transposed convolutions too.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.evaluate.metrics import float_psnr
from unirestore_ros.evaluate.timing import Row, Times, Work, spent_by, total
from unirestore_ros.export.measure import run
from unirestore_ros.export.parts import Adapter, Decoder, Part, Trunk
from unirestore_ros.export.precision import DTYPES, in_precision
from unirestore_ros.export.rewrites import copied, folded, transpose_upsampling
from unirestore_ros.model import UniRestore
from unirestore_ros.model.autoencoder import KLAutoencoder
from unirestore_ros.model.blocks import GroupAttentionBlock
from unirestore_ros.model.denoiser import FIRST_TIMESTEP, TRAIN_TIMESTEPS
from unirestore_ros.model.tfa import PooledGate
from unirestore_ros.model.weights import placed
from unirestore_ros.tasks import long_name, short_name


class PublishedWay:
    """One full eager forward for each output, in float32."""

    def __init__(self, network: UniRestore) -> None:
        self._network = PublishedNetwork(network)

    @torch.inference_mode()
    def __call__(self, images: Tensor, tasks: Sequence[str]) -> list[Tensor]:
        """Run the whole forward of images (B, 3, H, W) in [0, 1] for each task (short name)."""
        with _published_precision():
            return [self._network.restore(images, task) for task in tasks]


class PublishedNetwork(UniRestore):
    """A network's own weights, computed as published; a denoiser by the scheduler of diffusers.

    ``restore`` has the published size rule.
    """

    def __init__(self, network: UniRestore) -> None:
        nn.Module.__init__(self)  # its parts come from the network
        twin = copied(network)
        _write_out(twin)
        self.config = twin.config
        for name, module in twin.named_children():
            self.add_module(name, module)
        for name, buffer in network.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # What is None is no child, and no buffer, of the twin.
        self.controller, self.denoiser = twin.controller, twin.denoiser
        self.noise, self.null_embedding = network.noise, network.null_embedding
        if network.config.unet is None:
            return
        self._scheduler = DDIMScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            timestep_spacing="trailing",
            prediction_type=network.config.unet.prediction,
        )

    def encode(self, images: Tensor, restore: bool = True) -> tuple[Tensor, list[Tensor]]:
        autoencoder = self.autoencoder
        if not isinstance(autoencoder, KLAutoencoder):
            return super().encode(images, restore)
        x, skips = autoencoder.stem(images), []
        for level, cfrm in enumerate(self.cfrm):
            x = cfrm(autoencoder.down(level, x))
            skips.append(x)
        encoder = autoencoder.vae.encoder
        x = encoder.mid_block(encoder.down_blocks[3](x))
        x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
        posterior = DiagonalGaussianDistribution(autoencoder.vae.quant_conv(x))
        return posterior.mode() * autoencoder.scaling_factor, skips

    def denoise(self, z0: Tensor, steps: int = 1, noise: Tensor | None = None) -> Tensor:
        if self.denoiser is None or self.controller is None:
            return super().denoise(z0, steps, noise)
        scheduler = self._scheduler
        noise = self.stored_noise(z0) if noise is None else noise
        first = torch.full((z0.shape[0],), FIRST_TIMESTEP)
        zt: Tensor = scheduler.add_noise(z0, noise.expand_as(z0), first)
        scheduler.set_timesteps(steps)
        for time in scheduler.timesteps:
            t = time.reshape(-1)
            prediction = self.denoiser(zt, t, self.null_embedding, self.controller(z0, t))
            zt = scheduler.step(prediction, time, zt).prev_sample
        return zt


@contextmanager
def _published_precision() -> Iterator[None]:
    """Let matrix products be in less than float32, as the published main program does."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Gate(nn.Sequential):
    """Convolve at the skip's resolution, then average: (B, C, H, W) -> (B, T, C)."""

    def __init__(self, gate: PooledGate) -> None:
        super().__init__(*gate, nn.AdaptiveAvgPool2d(1))

    def forward(self, skip: Tensor) -> Tensor:
        return super().forward(skip).view(skip.shape[0], -1, skip.shape[1])


class _GroupAttention(nn.Module):
    def __init__(self, block: GroupAttentionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        block, groups = self.block, self.block.groups
        y = F.gelu(block.group_conv(block.group_norm(block.conv_in(x))))
        y = y * block.intra_group_attn(y)
        between = block.inter_group_attn(y)[:, :, None]
        y = (y.unflatten(1, (groups, -1)) * between).flatten(1, 2)
        return block.nafblock(x + block.pwconv(y))


def _write_out(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, PooledGate):
            setattr(module, name, _Gate(child))
        elif isinstance(child, GroupAttentionBlock):
            setattr(module, name, _GroupAttention(child))
        else:
            _write_out(child)


PERCEPTION = "perception"
Frame = NDArray[np.uint8]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured. ``size``: (width, height) of the frame; ``outputs``: tasks, long names."""

    size: tuple[int, int]
    outputs: tuple[str, ...]
    strides: tuple[int, ...]
    precisions: tuple[str, ...]
    runs: int

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the outputs by their short names."""
        return tuple(short_name(task) for task in self.outputs)

    def check(self, network: UniRestore) -> None:
        """Raise ValueError for what the network cannot do."""
        config = network.config
        for task in self.outputs:
            if short_name(task) not in config.tasks:
                has = ",".join(long_name(task) for task in config.tasks)
                raise ValueError(f"the weights have no prompt for {task!r}: say --outputs {has}")
        if any(side % config.multiple or side < config.min_side for side in self.size):
            raise ValueError(
                f"sides must be multiples of {config.multiple} from {config.min_side} on, so that"
                f" both ways see the same pixels: {self.size[0]}x{self.size[1]}"
            )
        for precision in self.precisions:
            if precision not in DTYPES:
                raise ValueError(f"precision {precision!r}: choose from {', '.join(DTYPES)}")
        for stride in self.strides:
            network.level_of(stride)


@torch.inference_mode()
def measure_network(network: UniRestore, frame: Frame, plan: Plan) -> list[Row]:
    """Time the published way, ours by precision and stride, and our parts, in turn.

    ``frame``: RGB (H, W, 3). Before the turns each of our parts runs once, beside its plain form.
    """
    published = PublishedWay(network)
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    reference = _Parts(network, "fp32", plan).outputs(frame)
    ours = [_Parts(fast_network(network, name), name, plan) for name in plan.precisions]
    errors = {parts.precision: distances(parts.outputs(frame), reference) for parts in ours}
    del reference
    times = Times()
    for turn in range(plan.runs):
        _turn(published, ours, image, frame, plan, times)
        for work, spent in times.items():
            _log.info("turn %d: %s %.0f ms", turn + 1, " ".join(map(str, work)), spent[-1].clock)
    return [_with_error(row, errors[row["precision"]]) for row in times.rows()]


def _turn(
    published: PublishedWay,
    ours: Sequence[_Parts],
    image: Tensor,
    frame: Frame,
    plan: Plan,
    times: Times,
) -> None:
    """Time each kind of work once. Ours are between the published way's forwards, one for each
    output, so that a change of load on the machine in these minutes meets both."""
    works = [(parts, stride) for stride in plan.strides for parts in ours]
    forwards = []
    for i, task in enumerate(plan.tasks):
        forwards.append(spent_by(partial(published, image, (task,))))
        for parts, stride in works[i :: len(plan.tasks)]:
            parts.run_in_turn(frame, stride, times)
    # The published way has no stride: measured once, it is a row beside each of ours.
    for stride in plan.strides:
        work = Work(f"published/{len(plan.tasks)}-outputs", "fp32", stride, "torch")
        times.add(work, total(forwards))


class _Parts:
    """The three parts of a network in one precision; an adapter for each stride."""

    def __init__(self, network: UniRestore, precision: str, plan: Plan) -> None:
        self._plan, self.precision = plan, precision
        dtype = DTYPES[precision]
        self._trunk = Trunk(network, dtype, steps=1).eval()
        self._decoder = Decoder(network, dtype).eval()
        self._adapters = {s: Adapter(network, dtype, s).eval() for s in plan.strides}
        self._prompts = {
            task: network.prompts[short_name(task)].detach()[None] for task in plan.outputs
        }

    def outputs(self, frame: Frame) -> dict[str, Tensor]:
        """Compute the image, and features by stride, of the first task of each kind."""
        given: dict[str, Tensor] = {}
        self._run_trunk(frame, given)
        found: dict[str, Tensor] = {}
        for task in self._plan.outputs:
            if task == PERCEPTION:
                found["image"] = self._with_prompt(self._decoder, given, task)["image"]
            else:
                for stride, adapter in self._adapters.items():
                    features = self._with_prompt(adapter, given, task)["features"]
                    found.setdefault(f"features at stride {stride}", features)
        return found

    def run_in_turn(self, frame: Frame, stride: int, times: Times) -> None:
        """Make all outputs of a frame and time the parts on the way."""
        given: dict[str, Tensor] = {}
        trunk = partial(self._run_trunk, frame, given)
        spent = [times.timed(self._work("part/trunk", None), trunk)]
        for task in self._plan.outputs:
            part: Part = self._adapters[stride]
            work = self._work("part/adapter", stride)
            if task == PERCEPTION:
                part, work = self._decoder, self._work("part/decoder", None)
            spent.append(times.timed(work, partial(self._with_prompt, part, given, task)))
        times.add(self._work(f"ours/{len(self._plan.outputs)}-outputs", stride), total(spent))

    def _work(self, what: str, stride: int | None) -> Work:
        return Work(what, self.precision, stride, "torch")

    def _run_trunk(self, frame: Frame, given: dict[str, Tensor]) -> None:
        given["frame"] = torch.from_numpy(frame)[None]
        given.update(run(self._trunk, given))

    def _with_prompt(self, part: Part, given: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
        return run(part, {**given, "prompt": self._prompts[task]})


def fast_network(network: UniRestore, precision: str) -> UniRestore:
    """Copy for a CPU: folded, up-sampling as transposed convolutions, channels last."""
    quick = folded(network)
    transpose_upsampling(quick)
    return placed(in_precision(quick, precision, explicit=False))


def distances(ours: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute PSNRs in dB: of bytes for the image, of the reference's span for features."""
    found = {}
    for name, expected in reference.items():
        span = 255.0 if name == "image" else float(expected.max() - expected.min())
        found[name] = round(
            float_psnr(ours[name].double().numpy(), expected.double().numpy(), span), 1
        )
    return found


def _with_error(row: Row, errors: Mapping[str, float]) -> Row:
    if not row["what"].startswith("ours/"):
        return row
    names = ("image", f"features at stride {row['stride']}")
    return {**row, "psnr_to_fp32_db": {name: errors[name] for name in names if name in errors}}
