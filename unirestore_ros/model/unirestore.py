"""UniRestore: one network that restores images for perception and features for machine tasks.

Encoder and denoiser do not depend on the task. Only the decoder does, and in it only what reads the
prompt; so it is cut into what is computed once a frame and what is computed for each task.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model import denoiser
from unirestore_ros.model.autoencoder import TinyAutoencoder, build_autoencoder
from unirestore_ros.model.blocks import CFRM, GroupAttentionBlock
from unirestore_ros.model.config import Config
from unirestore_ros.model.denoiser import ControlledUNet, Controller
from unirestore_ros.model.detail import fresh_gain
from unirestore_ros.model.tfa import Gates, TaskFeatureAdapter

LEVELS = 3
LEAST_SIDE = 64  # below it, the coarsest gates have nothing left to normalise over


class UniRestore(nn.Module):
    """Encoder with CFRM, denoiser with Controller, decoder with TFA. A call leaves no state.

    A configuration without a denoiser, as `tiny` has it, decodes the latent z0 as it is.

    Images are (B, 3, H, W) in [0, 1]; ``skips`` are the three restored encoder features, finest
    first; prompts are (T, C), one a task, kept under the published short names.
    """

    alphas: Tensor
    noise: Tensor | None
    null_embedding: Tensor | None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        tfa, skips = config.tfa, config.skip_channels
        self.autoencoder = build_autoencoder(config.autoencoder)
        self.cfrm = nn.ModuleList(
            CFRM(c, n, config.cfrm.expand, config.cfrm.groups)
            for c, n in zip(skips, config.cfrm.naf_blocks, strict=True)
        )
        self.controller: Controller | None = None
        self.denoiser: ControlledUNet | None = None
        noise = empty_prompt = None
        if config.unet is not None and config.controller is not None:
            self.controller = Controller(config.controller)
            self.denoiser = ControlledUNet(config.unet, config.controller.out_channels)
            noise = denoiser.stored_noise()
            if (width := config.unet.cross_attention_dim) is not None:
                empty_prompt = torch.zeros(1, 77, width)
        widths = skips[::-1]
        self.tfa = nn.ModuleList(
            TaskFeatureAdapter(features, width, tfa.prompt_length, following, tfa.gate_pool)
            for features, width, following in zip(
                tfa.feature_channels, widths, (*widths[1:], None), strict=True
            )
        )
        self.prompts = nn.ParameterDict(
            {task: nn.Parameter(torch.zeros(tfa.prompt_length, skips[-1])) for task in config.tasks}
        )
        self.detail = fresh_gain(config) if config.detail_gain else None
        self.register_buffer("alphas", denoiser.alphas_cumprod(), persistent=False)
        self.register_buffer("noise", noise)
        self.register_buffer("null_embedding", empty_prompt)
        if config.autoencoder.kind == "tiny":
            self._init_identity()

    @torch.no_grad()
    def _init_identity(self) -> None:
        """Let only the finest skip reach the image at first, so that training starts from the
        degraded image itself; what the coarser levels add starts at zero."""
        assert isinstance(self.autoencoder, TinyAutoencoder)
        upsample = self.autoencoder.upsample(1)
        finest = self._adapter(-1)
        recoveries = [m.pwconv for m in self.modules() if isinstance(m, GroupAttentionBlock)]
        for layer in (upsample, finest.t_gate2, finest.conv_out, *recoveries):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        features = finest.conv_out.out_channels
        nn.init.dirac_(finest.conv_out.weight[:, features:])

    # --- the four pieces

    def encode(self, images: Tensor, restore: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Encode images, H and W multiples of ``config.multiple``: z0 (B, 4, H/8, W/8), the skips.

        ``restore`` False leaves CFRM out, for clean images in training.
        """
        x = self.autoencoder.stem(images)
        skips = []
        for level in range(LEVELS):
            x = self.autoencoder.down(level, x)
            if restore:
                x = self.cfrm[level](x)
            skips.append(x)
        return self.autoencoder.to_latent(x), skips

    def denoise(self, z0: Tensor, steps: int = 1, noise: Tensor | None = None) -> Tensor:
        """Denoise z0 (B, 4, h, w); the same shape. ``noise`` (B, 4, h, w), None: the stored one.

        The noise is that of t = 999, whatever the number of steps. Without a denoiser z0 is
        returned unchanged. ValueError where ``steps`` is not 1 to 4, or not 1 without a denoiser.
        """
        if self.denoiser is None:
            if steps != 1:
                raise ValueError(f"{steps} denoising steps: {self.config.name} has no denoiser")
            return z0
        noise = self.stored_noise(z0) if noise is None else noise
        times = denoiser.timesteps(steps)
        zt = denoiser.add_noise(z0, noise, self.alphas[denoiser.FIRST_TIMESTEP])
        for time in times:
            t = torch.full((z0.shape[0],), time, device=z0.device)
            x0, epsilon = self.predict(zt, z0, t)
            previous = time - denoiser.TRAIN_TIMESTEPS // steps
            zt = denoiser.ddim_step(x0, epsilon, self.alphas[max(previous, 0)]).to(z0.dtype)
        return zt

    def predict(self, zt: Tensor, z0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Run Controller and U-Net once at timesteps t (B,): the clean latent and epsilon.

        Without a denoiser z0 is the clean latent, and epsilon zero.
        """
        if self.denoiser is None or self.controller is None:
            return z0, torch.zeros_like(z0)
        context = self.null_embedding
        if context is not None:
            context = context.to(zt.dtype).expand(zt.shape[0], -1, -1)
        prediction = self.denoiser(zt, t, context, self.controller(z0, t))
        return self.denoiser.split(zt, prediction, self.alphas[t].view(-1, 1, 1, 1))

    def decode(self, zt: Tensor, skips: list[Tensor], task: str) -> Tensor:
        """Decode with the task's prompt: image (B, 3, H, W), not clamped."""
        return self.autoencoder.to_image(self.last_features(zt, skips, task))

    def decode_with_gain(
        self, zt: Tensor, skips: list[Tensor], task: str
    ) -> tuple[Tensor, Tensor | None]:
        """Decode as ``decode`` does, and return the detail gain of ``gain_from`` too."""
        features = self.last_features(zt, skips, task)
        return self.autoencoder.to_image(features), self.gain_from(features, skips)

    def last_features(self, zt: Tensor, skips: list[Tensor], task: str) -> Tensor:
        prompt = self.prompts[task].unsqueeze(0)
        stem = self.autoencoder.from_latent(zt)
        return self.features_from(stem, skips, self.gates(skips), prompt)

    def adapt(self, zt: Tensor, skips: list[Tensor], task: str, stride: int) -> Tensor:
        """Return x' of the TFA at ``stride``, the features that a machine task reads: (B, D, h, w).

        The rest of the decoder, which is its costly half, does not run.
        """
        prompt = self.prompts[task].unsqueeze(0)
        stem, last = self.autoencoder.from_latent(zt), self.level_of(stride)
        return self.adapt_from(stem, skips, self.gates(skips[-1 - last :], last), prompt)

    # --- the decoder, cut where tasks part

    def level_of(self, stride: int) -> int:
        """Return the index of the TFA at ``stride``, 0 the coarsest."""
        strides = self.config.tfa.strides
        if stride not in strides:
            raise ValueError(f"no adapter at stride {stride}: {self.config.name} has {strides}")
        return strides.index(stride)

    def _adapter(self, i: int) -> TaskFeatureAdapter:
        adapter = self.tfa[i]
        assert isinstance(adapter, TaskFeatureAdapter)
        return adapter

    def gates(self, skips: list[Tensor], last: int = LEVELS - 1) -> list[Gates]:
        """Compute the gates of TFA 0 to ``last`` from the skips (finest first), for every task."""
        return [self._adapter(i).gates(skips[-1 - i]) for i in range(last + 1)]

    def adapt_from(
        self, x: Tensor, skips: list[Tensor], gates: list[Gates], prompt: Tensor
    ) -> Tensor:
        """Run the decoder from its stem x to the last TFA that has gates; x' (B, D, h, w).

        ``prompt``: (1, T, C).
        """
        for i, gate in enumerate(gates):
            if i > 0:
                x = self.autoencoder.up(i - 1, x)
            x, prompt = self._adapter(i)(x, skips[-1 - i], gate, prompt)
        return x

    def features_from(
        self, x: Tensor, skips: list[Tensor], gates: list[Gates], prompt: Tensor
    ) -> Tensor:
        """Run the decoder from its stem x to its last features, (B, D, h, w).

        ``autoencoder.to_image`` makes the image of them, ``gain_from`` the detail gain.
        """
        x = self.adapt_from(x, skips, gates, prompt)
        return self.autoencoder.up(LEVELS - 1, x)

    def gain_from(self, features: Tensor, skips: list[Tensor]) -> Tensor | None:
        """Predict the detail gain (B, 1, H, W); None where the network has no such layer."""
        gain: Tensor | None = None if self.detail is None else self.detail(features, skips[0])
        return gain

    # --- whole images

    def forward(self, images: Tensor, task: str = "ir", steps: int = 1) -> Tensor:
        """Restore images whose sides are multiples of ``config.multiple``; not clamped."""
        z0, skips = self.encode(images)
        return self.decode(self.denoise(z0, steps), skips, task)

    def restore(
        self, images: Tensor, task: str = "ir", steps: int = 1, noise: Tensor | None = None
    ) -> Tensor:
        """Restore images of any size, by the published size rule; the same size comes out.

        A shorter side under ``config.min_side`` is enlarged to it (bicubic), then right and bottom
        are padded by reflection; the padding is cropped and the size undone at the end.
        """
        height, width = images.shape[-2:]
        scaled = images
        if min(height, width) < self.config.min_side:
            scale = self.config.min_side / min(height, width)
            scaled = _bicubic(images, (round(height * scale), round(width * scale)))
        inner = scaled.shape[-2:]
        if min(inner) < LEAST_SIDE:
            raise ValueError(f"an image of {width}x{height} is too small: {LEAST_SIDE} a side")
        z0, skips = self.encode(pad_to_multiple(scaled, self.config.multiple))
        out = self.decode(self.denoise(z0, steps, noise), skips, task)
        return _bicubic(out[..., : inner[0], : inner[1]], (height, width))

    def stored_noise(self, latent: Tensor) -> Tensor:
        """Crop the stored noise, top left, for a latent (B, 4, h, w).

        ValueError for a latent larger than it, and where there is no denoiser.
        """
        if self.noise is None:
            raise ValueError(f"{self.config.name} has no denoiser, and so no stored noise")
        height, width = latent.shape[-2:]
        limit = self.noise.shape[-2:]
        if height > limit[0] or width > limit[1]:
            raise ValueError(
                f"a latent of {width}x{height} is larger than the stored noise "
                f"{limit[1]}x{limit[0]}: use a smaller working size"
            )
        return self.noise[..., :height, :width].to(latent.dtype)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom by reflection until both sides are multiples."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="reflect")


def _bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False)
