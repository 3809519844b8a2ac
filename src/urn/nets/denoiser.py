"""The network that Urn ships: a small class-conditional U-Net with self-attention, for 8 x 8 images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
NULL_CLASS = 10  # the label of "no label"
GROUPS = 8


class DigitsDenoiser(nn.Module):
    """net(x, t, label) for x of shape (B, 1, 8, 8): 8 x 8 -> 4 x 4 -> 8 x 8, attention at both sizes.

    Residual blocks are conditioned by scale and shift of a group norm, from time and class. It computes in the dtype of
    its weights and returns x's. `attention_coarse` and `attention_fine` are the `SelfAttention` modules: guidance by
    perturbed attention hooks their `attend`.

    Args:
        width: channels at 8 x 8, a multiple of 8.
        coarse_width: channels at 4 x 4, a multiple of 8 and of `heads`.
        embedding: size of the embedding of time and class, even.
        heads: heads of both attentions; divides both widths.
        dropout: share of channels' values dropped in each residual block, in training only, in [0, 1).

    Raises:
        ValueError: sizes that do not divide as said.

    Sources: Ho, Jain, Abbeel 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239, appendix B; the
        conditioning: Dhariwal & Nichol 2021, Diffusion Models Beat GANs on Image Synthesis, arXiv 2105.05233, section 3.1.

    Example:
        >>> DigitsDenoiser()(torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.9]), torch.tensor([3, 10])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self, width: int = 32, coarse_width: int = 64, embedding: int = 64, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        _check_sizes(width, coarse_width, embedding, heads, dropout)
        self.options: dict[str, int | float] = {
            "width": width,
            "coarse_width": coarse_width,
            "embedding": embedding,
            "heads": heads,
            "dropout": dropout,
        }
        self.condition = Condition(embedding)
        self.inward = nn.Conv2d(1, width, 3, padding=1)
        self.down_block = ResidualBlock(width, width, embedding, dropout)
        self.down = nn.Conv2d(width, coarse_width, 2, stride=2)
        self.coarse_block_1 = ResidualBlock(coarse_width, coarse_width, embedding, dropout)
        self.attention_coarse = SelfAttention(coarse_width, heads)
        self.coarse_block_2 = ResidualBlock(coarse_width, coarse_width, embedding, dropout)
        self.up = nn.ConvTranspose2d(coarse_width, width, 2, stride=2)
        self.up_block = ResidualBlock(2 * width, width, embedding, dropout)
        self.attention_fine = SelfAttention(width, heads)
        self.outward = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))
        _zero(self.outward[2])

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The prediction for x at times t.

        Args:
            x: (B, 1, 8, 8).
            t: (B,) in [0, 1], or one time for all.
            label: (B,) integers 0 ... 9, or one for all; 10, or anything negative, or None is the null class.

        Returns:
            (B, 1, 8, 8), in x's dtype.

        Raises:
            ValueError: another shape of x, or a label that is no integer, or above 10.
        """
        if x.ndim != 4 or x.shape[1:] != (1, 8, 8):
            raise ValueError(f"x of shape {tuple(x.shape)} must have shape (B, 1, 8, 8)")
        weights = self.inward.weight
        c = self.condition(t.expand(len(x)), _classes(label, x))
        fine = self.down_block(self.inward(x.to(weights)), c)
        coarse = self.coarse_block_1(self.down(fine), c)
        coarse = self.coarse_block_2(self.attention_coarse(coarse), c)
        fine = self.up_block(torch.cat([self.up(coarse), fine], 1), c)
        output: Tensor = self.outward(self.attention_fine(fine))
        return output.to(x.dtype)


class SelfAttention(nn.Module):
    """x + out(attend(q, k, v)) over the pixels of x, (B, C, H, W), after a group norm.

    `attend` is a module of its own, without weights, so that a forward hook can replace what it returns (by v: perturbed
    attention guidance) and a forward pre-hook its queries (blurred: smoothed energy guidance).
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.attend = Attend()
        self.out = _zero(nn.Linear(channels, channels))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        mixed = self.attend(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        change: Tensor = self.out(mixed).transpose(1, 2).view(B, C, H, W)
        return x + change


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v, all of shape (B, heads, tokens, d). A module only so that it can be hooked."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class ResidualBlock(nn.Module):
    """skip(x) + conv(dropout(silu((1 + scale) norm(conv(silu(norm(x)))) + shift))), scale and shift from the condition."""

    def __init__(self, inward: int, outward: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(GROUPS, inward)
        self.conv_1 = nn.Conv2d(inward, outward, 3, padding=1)
        self.norm_2 = nn.GroupNorm(GROUPS, outward, affine=False)
        self.scale_shift = nn.Linear(embedding, 2 * outward)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = _zero(nn.Conv2d(outward, outward, 3, padding=1))
        self.skip = nn.Identity() if inward == outward else nn.Conv2d(inward, outward, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, 1)
        h = self.norm_2(self.conv_1(functional.silu(self.norm_1(x)))) * (1 + scale) + shift
        result: Tensor = self.skip(x) + self.conv_2(self.dropout(functional.silu(h)))
        return result


class Condition(nn.Module):
    """silu(mlp(sines of t) + table[label]): the embedding (B, size) that all residual blocks see."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.time = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        self.classes = nn.Embedding(CLASSES + 1, size)

    def forward(self, t: Tensor, label: Tensor) -> Tensor:
        classes = self.classes(label)
        return functional.silu(self.time(_sines(t, self.size).to(classes)) + classes)


def _sines(t: Tensor, size: int) -> Tensor:
    """(B, size) sines and cosines of t in [0, 1], at 1 ... 1000 radians: lambda changes fastest at small t."""
    # half precision has too few digits for an angle of 1000 radians
    t = t if t.dtype == torch.float64 else t.float()
    frequencies = torch.exp(torch.linspace(0, math.log(1000.0), size // 2, dtype=t.dtype, device=t.device))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def _classes(label: Tensor | None, x: Tensor) -> Tensor:
    """The labels as (B,) indices into the table of classes."""
    if label is None:
        return torch.full((len(x),), NULL_CLASS, device=x.device)
    label = torch.as_tensor(label, device=x.device)
    if label.is_floating_point() or label.dtype == torch.bool or tuple(label.shape) not in ((), (len(x),)):
        raise ValueError(f"label: {label.dtype} of shape {tuple(label.shape)}; ({len(x)},) integers are needed")
    if bool((label > NULL_CLASS).any()):
        raise ValueError(f"label={int(label.max())} must be 0 ... 9, or 10 or negative for no class")
    return torch.where(label < 0, NULL_CLASS, label).long().expand(len(x))


def _zero(layer: nn.Module) -> nn.Module:
    """A layer that starts at zero, so that a residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _check_sizes(width: int, coarse_width: int, embedding: int, heads: int, dropout: float) -> None:
    for name, value in (("width", width), ("coarse_width", coarse_width)):
        if value < 1 or value % GROUPS or heads < 1 or value % heads:
            raise ValueError(f"{name}={value} must be a positive multiple of {GROUPS} and of heads={heads}")
    if embedding < 2 or embedding % 2:
        raise ValueError(f"embedding={embedding} must be a positive even number")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be in [0, 1)")
