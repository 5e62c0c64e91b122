"""A network after PromptIR (Potlapalli et al., Prompting for All-in-One Blind Image Restoration,
NeurIPS 2023), of Restormer's blocks (Zamir et al., CVPR 2022)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.heads import enlarged
from unirestore_ros.model.naf import LayerNorm2d
from unirestore_ros.model.rivals.half_resolution import HalfResolution


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
    """Components of which each prompt is mixed."""
    prompt_side: int = 16


class ChannelAttention(nn.Module):
    """Transposed attention: channels attend to each other, over all pixels. Same shape."""

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
        # In float32: the norm is over every pixel of the image.
        q, k = (F.normalize(part.float(), dim=-1).to(v.dtype) for part in (q, k))
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        mixed = weights.to(v.dtype) @ v
        return self.project(mixed.reshape(batch, channels, height, width))


class GatedFeedForward(nn.Module):
    """Same shape in and out."""

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
    """Mixes a prompt from components, weighed by what is in the features, and lets it act on them:
    (B, C, h, w) -> the same shape."""

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
