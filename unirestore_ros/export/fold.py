"""Exact rewrites of the network for compilation: the same function in fewer passes over memory.

Measured on `tiny` with ONNX Runtime, docs/tiny.md: NAFBlocks take a fifth to a third less, decoder
and adapter a fifth and a quarter less.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from unirestore_ros.model import UniRestore
from unirestore_ros.model.blocks import NAFBlock
from unirestore_ros.model.tfa import Gates, TaskFeatureAdapter


class FoldedNAFBlock(nn.Module):
    """A NAFBlock without its channel splits and residual scales.

    Each gate multiplies two halves of one convolution's output. Two convolutions of half the width
    give these halves without a copy, and stay in the blocked layout of ONNX Runtime.
    """

    def __init__(self, block: NAFBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.sca = block.norm1, block.norm2, block.sca
        self.conv1, self.conv2 = halves(block.conv1), halves(block.conv2)
        self.conv3 = scaled(block.conv3, block.beta)
        self.conv4 = halves(block.conv4)
        self.conv5 = scaled(block.conv5, block.gamma)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self.conv2[0](self.conv1[0](y)) * self.conv2[1](self.conv1[1](y))
        x = x + self.conv3(y * self.sca(y))
        y = self.norm2(x)
        return x + self.conv5(self.conv4[0](y) * self.conv4[1](y))


class FoldedAdapter(TaskFeatureAdapter):
    """A TaskFeatureAdapter whose 1x1 convolutions became one matrix product.

    For one prompt it is linear: x' = (1 + Wx) x + Ws (s + W2 (o * (W1 s + b1)) + b2) + b. What is
    multiplied with s is one matrix, made once a prompt; 1 + Wx can go into the convolution that x
    comes from (``absorb``). One sample at a time.
    """

    def __init__(self, adapter: TaskFeatureAdapter) -> None:
        nn.Module.__init__(self)  # its parts come from the adapter
        self.gate_pool, self.filter_gate = adapter.gate_pool, adapter.filter_gate
        self.info_gate, self.content_trans = adapter.info_gate, adapter.content_trans
        self.out_gate, self.prompt_trans = adapter.out_gate, adapter.prompt_trans
        features = adapter.conv_out.out_channels
        out, first, second = (
            matrix_of(conv) for conv in (adapter.conv_out, adapter.t_gate1, adapter.t_gate2)
        )
        mix = nn.Conv2d(features, features, 1)
        on_x, on_skip = out[:, :features], out[:, features:]
        bias = bias_of(adapter.conv_out) + on_skip @ bias_of(adapter.t_gate2)
        mix.weight.data = (torch.eye(features) + on_x)[..., None, None]
        mix.bias = nn.Parameter(bias)
        self.mix: nn.Conv2d | nn.Identity = mix
        self.straight, self.gated = nn.Parameter(on_skip), nn.Parameter(on_skip @ second)
        self.first = nn.Parameter(torch.cat([first, bias_of(adapter.t_gate1)[:, None]], dim=1))

    def absorb(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        """Move what is done with x into the convolution that makes x."""
        assert isinstance(self.mix, nn.Conv2d)
        mix = matrix_of(self.mix)
        axes = "od,idhw->iohw" if isinstance(conv, nn.ConvTranspose2d) else "od,dihw->oihw"
        conv.weight.data = torch.einsum(axes, mix, conv.weight.data)
        conv.bias = nn.Parameter(mix @ bias_of(conv) + bias_of(self.mix))
        self.mix = nn.Identity()

    def forward(
        self, x: Tensor, skip: Tensor, gates: Gates, prompt: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        prompt = gates.filter * prompt + gates.info * gates.content
        on_skip = (self.gated * self.out_gate(prompt.flatten(1))) @ self.first
        matrix, bias = self.straight + on_skip[:, :-1], on_skip[:, -1:]
        matrix, bias = matrix.to(skip.dtype), bias.to(skip.dtype)
        added = torch.addmm(bias, matrix, skip[0].flatten(1))
        x = self.mix(x) + added.view(x.shape)
        return x, self.prompt_trans(prompt) if self.prompt_trans is not None else None


def matrix_of(conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution's weights, (out, in)."""
    return conv.weight.data[..., 0, 0].clone()


def bias_of(conv: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.data.clone()


def halves(conv: nn.Conv2d) -> nn.ModuleList:
    """A convolution (1x1 or depthwise) as two, for lower and upper half of its output channels."""
    width = conv.out_channels // 2
    depthwise = conv.groups > 1
    parts = nn.ModuleList()
    for i in range(2):
        part = nn.Conv2d(
            width if depthwise else conv.in_channels,
            width,
            conv.kernel_size,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            groups=width if depthwise else 1,
        )
        part.weight.data = conv.weight.data[i * width : (i + 1) * width].clone()
        assert part.bias is not None and conv.bias is not None
        part.bias.data = conv.bias.data[i * width : (i + 1) * width].clone()
        parts.append(part)
    return parts


def scaled(conv: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """The convolution with its output channels multiplied by ``scale`` (1, C, 1, 1)."""
    folded = copy.deepcopy(conv)
    assert folded.bias is not None
    folded.weight.data *= scale.data.view(-1, 1, 1, 1)
    folded.bias.data *= scale.data.flatten()
    return folded


def folded(network: UniRestore) -> UniRestore:
    """A copy of the network for export."""
    network = copied(network)
    _fold_children(network)
    for level, adapter in enumerate(network.tfa):
        assert isinstance(adapter, FoldedAdapter)
        if level > 0:
            adapter.absorb(network.autoencoder.upsample(level - 1))
    return network


def copied(network: UniRestore) -> UniRestore:
    """A copy with parameters of its own, which share their memory until they are replaced."""
    memory: dict[int, object] = {
        id(tensor): nn.Parameter(tensor.data, requires_grad=False)
        for tensor in network.parameters()
    }
    memory.update({id(tensor): tensor for tensor in network.buffers()})
    return copy.deepcopy(network, memory)


def _fold_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, NAFBlock):
            setattr(module, name, FoldedNAFBlock(child))
        elif isinstance(child, TaskFeatureAdapter):
            setattr(module, name, FoldedAdapter(child))
        else:
            _fold_children(child)
