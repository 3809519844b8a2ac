"""Pictures of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TILE = 64  # small images are scaled up until their longer side has at least this many pixels
GAP, LABEL = 4, 14


def contact_sheet(x: Tensor, columns: int, labels: Sequence[object] | None = None, *, path: str | Path) -> None:
    """Write images as one PNG, row by row, small ones scaled up by a whole factor, pixel for pixel.

    Args:
        x: (B, 1, H, W) grey or (B, 3, H, W) coloured images with values in [-1, 1], beyond which they are cut; what is not
            a number is shown as grey.
        columns: images in a row.
        labels: what is written above each image.
        path: the file.

    Raises:
        ValueError: x is no batch of images, `columns` is below 1, or there is not one label for each.
        ImportError: Pillow is not installed.

    Example:
        >>> contact_sheet(torch.rand(20, 1, 8, 8) * 2 - 1, columns=10, path="sheet.png")
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed: (B, 1, H, W) or (B, 3, H, W)")
    if columns < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    if labels is not None and len(labels) != len(x):
        raise ValueError(f"labels: {len(labels)} given for {len(x)} images; one each is needed")
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError("pictures need Pillow: pip install 'urn-samplers[plots]'") from error
    height, width = x.shape[2:]
    scale = max(1, -(-TILE // max(height, width)))
    head = 0 if labels is None else LABEL
    down, right = height * scale + head + GAP, width * scale + GAP
    mode = "L" if x.shape[1] == 1 else "RGB"
    size = (min(columns, len(x)) * right + GAP, -(-len(x) // columns) * down + GAP)
    sheet = Image.new(mode, size, "white")
    pen = ImageDraw.Draw(sheet)
    for i, pixels in enumerate(_bytes(x)):
        left, top = i % columns * right + GAP, i // columns * down + GAP
        image = Image.fromarray(pixels, mode)
        tile = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + head))
        if labels is not None:
            pen.text((left + 1, top), str(labels[i]), fill="black")
    sheet.save(path)


def _bytes(x: Tensor) -> list[Any]:
    """For each image its pixels as 0 ... 255, (H, W) or (H, W, 3)."""
    levels = ((torch.nan_to_num(x.detach().cpu().double(), nan=0.0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(levels[:, 0].numpy() if x.shape[1] == 1 else levels.permute(0, 2, 3, 1).contiguous().numpy())
