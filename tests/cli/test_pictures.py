"""The contact sheet, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from urn.pictures import GAP, LABEL, contact_sheet


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_tiles_in_reading_order_scaled_up_pixel_for_pixel(tmp_path):
    x = torch.linspace(-1, 1, 5 * 2 * 4).reshape(5, 1, 2, 4)
    contact_sheet(x, columns=3, path=tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    height, width = 2 * 16, 4 * 16
    assert sheet.shape == (2 * (height + GAP) + GAP, 3 * (width + GAP) + GAP)
    for i in range(5):
        top, left = GAP + i // 3 * (height + GAP), GAP + i % 3 * (width + GAP)
        wanted = np.round((x[i, 0].double().numpy() + 1) * 127.5).astype(int)
        tile = sheet[top : top + height, left : left + width]
        assert (tile == wanted.repeat(16, 0).repeat(16, 1)).all()
    assert (sheet[:GAP] == 255).all()


def test_colour_and_large_images_are_not_scaled(tmp_path):
    x = torch.rand(1, 3, 70, 65, generator=torch.Generator().manual_seed(0)) * 2 - 1
    contact_sheet(x, columns=4, path=tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    assert sheet.shape == (70 + 2 * GAP, 65 + 2 * GAP, 3)
    wanted = np.round((x[0].permute(1, 2, 0).double().numpy() + 1) * 127.5).astype(int)
    assert (sheet[GAP:-GAP, GAP:-GAP] == wanted).all()


def test_values_beyond_the_range_are_cut_and_nan_is_grey(tmp_path):
    x = torch.tensor([-3.0, 3.0, torch.nan, -torch.inf]).reshape(1, 1, 1, 4)
    contact_sheet(x, columns=1, path=tmp_path / "sheet.png")
    assert pixels(tmp_path / "sheet.png")[GAP, GAP:-GAP:16].tolist() == [0, 255, 128, 0]


def test_labels_are_written_above(tmp_path):
    x = torch.zeros(2, 1, 8, 8)
    contact_sheet(x, columns=2, labels=[1, 8], path=tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    assert sheet.shape[0] == 64 + LABEL + 2 * GAP
    strips = [sheet[GAP : GAP + LABEL, left : left + 64] for left in (GAP, 2 * GAP + 64)]
    assert all((strip < 128).any() for strip in strips)
    assert (strips[0] != strips[1]).any()
    assert (sheet[GAP + LABEL : -GAP, GAP : GAP + 64] == 128).all()  # no ink runs into the image


@pytest.mark.parametrize(
    ("x", "columns", "labels", "said"),
    [
        (torch.zeros(2, 3), 1, None, r"x has shape \(2, 3\)"),
        (torch.zeros(2, 4, 8, 8), 1, None, "x has shape"),
        (torch.zeros(0, 1, 8, 8), 1, None, "x has shape"),
        (torch.zeros(2, 1, 8, 8), 0, None, "columns=0 must be at least 1"),
        (torch.zeros(2, 1, 8, 8), 1, [1], "labels: 1 given for 2 images"),
    ],
)
def test_refusals(tmp_path, x, columns, labels, said):
    with pytest.raises(ValueError, match=said):
        contact_sheet(x, columns, labels, path=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
