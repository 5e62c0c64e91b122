"""Networks that UniRestore is compared with, each of about the compute of `tiny`.

NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022); one after PromptIR
(Potlapalli et al., Prompting for All-in-One Blind Image Restoration, NeurIPS 2023), of Restormer's
blocks (Zamir et al., CVPR 2022); one after URIE (Son et al., Universal Image Enhancement for Visual
Recognition in the Wild, ECCV 2020), which is trained for a recogniser instead of for perception.
"""

from __future__ import annotations

import abc
import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.blocks import LayerNorm2d, NAFBlock
from unirestore_ros.model.detail import enlarged
from unirestore_ros.model.unirestore import pad_to_multiple


class HalfResolution(nn.Module, abc.ABC):
    """Restores images (B, 3, H, W) in [0, 1] of any size, by a body at stride 2; not clamped.

    Pixel-unshuffle by 2 and a convolution (written as one strided convolution), the body, a
    convolution and a pixel-shuffle, whose result is added to the image. All networks pay for
    resolution as `tiny` does, and start from the degraded image as it does: the last convolution
    starts at zero.
    """

    def __init__(self, first: int, last: int, multiple: int, kernel: int = 3) -> None:
        """``first``, ``last``: channels into and out of the body; ``multiple``: image sides are
        padded to it; ``kernel``: of the first convolution, in cells of 2x2 pixels."""
        super().__init__()
        self.multiple = multiple
        self.stem = nn.Conv2d(3, first, 2 * kernel, stride=2, padding=kernel - 1)
        self.ending = nn.Conv2d(last, 12, 3, padding=1)
        for parameter in self.ending.parameters():
            nn.init.zeros_(parameter)

    @abc.abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """Map (B, first, H/2, W/2) to (B, last, H/2, W/2)."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple)
        change = F.pixel_shuffle(self.ending(self.body(self.stem(2 * padded - 1))), 2)
        return (padded + change)[..., :height, :width]


# --- NAFNet


@dataclasses.dataclass(frozen=True)
class NAFNetConfig:
    """Width at stride 2, doubled at each level; NAFBlocks of each level, finest first."""

    width: int = 24
    encoder: tuple[int, ...] = (2, 2, 4)
    middle: int = 2
    decoder: tuple[int, ...] = (4, 3, 4)


class NAFNet(HalfResolution):
    """The published U-shape: strided convolutions down, 1x1 and pixel-shuffle up, skips added."""

    def __init__(self, config: NAFNetConfig) -> None:
        levels = len(config.encoder)
        super().__init__(config.width, config.width, multiple=2 ** (levels + 1))
        widths = [config.width * 2**level for level in range(levels + 1)]
        self.encoders = nn.ModuleList(
            _blocks(width, count) for width, count in zip(widths, config.encoder, strict=False)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, 2) for width in widths[:-1])
        self.middle = _blocks(widths[-1], config.middle)
        self.ups = nn.ModuleList(
            nn.Conv2d(2 * width, 4 * width, 1, bias=False) for width in widths[:-1]
        )
        self.decoders = nn.ModuleList(
            _blocks(width, count) for width, count in zip(widths, config.decoder, strict=False)
        )

    def body(self, x: Tensor) -> Tensor:
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for level in reversed(range(len(skips))):
            x = F.pixel_shuffle(self.ups[level](x), 2) + skips[level]
            x = self.decoders[level](x)
        return x


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


# --- PromptIR


@dataclasses.dataclass(frozen=True)
class PromptIRConfig:
    """Width at stride 2, doubled at each level; blocks and heads of each level, finest first, the
    last of them the coarsest's, which has no prompt."""

    width: int = 12
    blocks: tuple[int, ...] = (1, 2, 2, 3)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 1
    expansion: float = 2.66
    prompts: int = 5
    """Components that each prompt is mixed from."""
    prompt_side: int = 16


class ChannelAttention(nn.Module):
    """Restormer's transposed attention: channels attend to each other, over all pixels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.local = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = self.local(self.qkv(x)).view(batch, 3, self.heads, channels // self.heads, -1)
        q, k, v = parts.unbind(dim=1)
        # In float32, because the norm is a sum over every pixel of the image.
        q, k = (F.normalize(part.float(), dim=-1).to(v.dtype) for part in (q, k))
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        mixed = weights.to(v.dtype) @ v
        return self.project(mixed.reshape(batch, channels, height, width))


class GatedFeedForward(nn.Module):
    """Restormer's feed-forward with a gate; the same shape."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        wide = 2 * int(expansion * channels)
        self.widen = nn.Conv2d(channels, wide, 1, bias=False)
        self.local = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.narrow = nn.Conv2d(wide // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.local(self.widen(x)).chunk(2, dim=1)
        return self.narrow(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.attention = ChannelAttention(channels, heads)
        self.feed_forward = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class PromptBlock(nn.Module):
    """Mixes a prompt from components, weighed by the features, and applies it to them.

    (B, C, h, w) -> the same shape.
    """

    def __init__(self, channels: int, heads: int, config: PromptIRConfig) -> None:
        super().__init__()
        side = config.prompt_side
        self.components = nn.Parameter(torch.rand(config.prompts, channels, side, side))
        self.weigh = nn.Linear(channels, config.prompts)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.interact = TransformerBlock(2 * channels, heads, config.expansion)
        self.narrow = nn.Conv2d(2 * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weigh(x.mean(dim=(-2, -1))).softmax(dim=-1)
        mixed = torch.einsum("bn,nchw->bchw", weights, self.components.to(weights.dtype))
        prompt = self.smooth(enlarged(mixed, x))
        return self.narrow(self.interact(torch.cat([x, prompt], dim=1)))


class PromptIR(HalfResolution):
    """A U-shape of transformer blocks with a prompt block before each step up."""

    def __init__(self, config: PromptIRConfig) -> None:
        levels = len(config.blocks) - 1
        # The finest decoder works on the skip and what came up, side by side, as is published.
        super().__init__(config.width, 2 * config.width, multiple=2 ** (levels + 1))
        widths = [config.width * 2**level for level in range(levels + 1)]

        def run(level: int, channels: int, count: int) -> nn.Sequential:
            block = (channels, config.heads[level], config.expansion)
            return nn.Sequential(*(TransformerBlock(*block) for _ in range(count)))

        self.encoders = nn.ModuleList(
            run(i, width, count)
            for i, (width, count) in enumerate(zip(widths, config.blocks, strict=True))
        )
        self.downs = nn.ModuleList(
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False) for width in widths[:-1]
        )
        self.prompts = nn.ModuleList(
            PromptBlock(width, config.heads[i + 1], config) for i, width in enumerate(widths[1:])
        )
        self.ups = nn.ModuleList(
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False) for width in widths[:-1]
        )
        self.merges = nn.ModuleList(
            nn.Conv2d(2 * width, width, 1, bias=False) if i else nn.Identity()
            for i, width in enumerate(widths[:-1])
        )
        self.decoders = nn.ModuleList(
            run(i, width if i else 2 * width, config.blocks[i])
            for i, width in enumerate(widths[:-1])
        )
        self.refinement = run(0, 2 * config.width, config.refinement)

    def body(self, x: Tensor) -> Tensor:
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            x = encoder(x)
            skips.append(x)
            x = F.pixel_unshuffle(down(x), 2)
        x = self.encoders[-1](x)
        for i in reversed(range(len(skips))):
            x = F.pixel_shuffle(self.ups[i](self.prompts[i](x)), 2)
            x = self.decoders[i](self.merges[i](torch.cat([x, skips[i]], dim=1)))
        return self.refinement(x)


# --- URIE

GRID = 4  # cells a side, in each of which an enhancement is chosen
REDUCTION = 16


@dataclasses.dataclass(frozen=True)
class URIEConfig:
    """The five published widths are 32, 64, 64, 32 and 16: twice and half the first."""

    width: int = 40


class Selector(nn.Module):
    """Chooses from (B, C, H, W) how much of two streams to take: (2, B, C, H, W), summing to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        cells = channels * GRID**2
        self.squeeze = nn.Sequential(nn.Linear(cells, cells // REDUCTION, bias=False), nn.ReLU())
        self.choose = nn.Linear(cells // REDUCTION, 2 * cells)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, GRID)
        choice = self.choose(self.squeeze(pooled.flatten(1))).view(len(x), 2, *pooled.shape[1:])
        shares = choice.softmax(dim=1).flatten(1, 2)
        whole = F.interpolate(shares, size=x.shape[-2:], mode="nearest")
        return whole.view(len(x), 2, *x.shape[1:]).transpose(0, 1)


class SelectiveEnhancement(nn.Module):
    """Two streams, mixed by place and channel: one keeps the image's own statistics (batch
    normalisation), the other removes them (instance normalisation)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.kept = nn.Sequential(
            nn.BatchNorm2d(before), nn.LeakyReLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.taken = nn.Sequential(
            nn.InstanceNorm2d(before), nn.LeakyReLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.selector = Selector(after)

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = self.kept(x), self.taken(x)
        first, second = self.selector(kept + taken)
        return kept * first + taken * second


class URIE(HalfResolution):
    """Two selective modules down, two up, skips concatenated.

    The published first convolution is 9x9; this one is 8x8 at stride 2.
    """

    def __init__(self, config: URIEConfig) -> None:
        width = config.width
        super().__init__(width, width // 2, multiple=8, kernel=4)
        self.down1 = SelectiveEnhancement(width, 2 * width)
        self.down2 = SelectiveEnhancement(2 * width, 2 * width)
        self.up1 = SelectiveEnhancement(4 * width, width)
        self.up2 = SelectiveEnhancement(2 * width, width // 2)

    def body(self, x: Tensor) -> Tensor:
        middle = self.down1(F.max_pool2d(x, 2))
        coarse = self.down2(F.max_pool2d(middle, 2))
        middle = self.up1(torch.cat([middle, enlarged(coarse, middle)], dim=1))
        return self.up2(torch.cat([x, enlarged(middle, x)], dim=1))
