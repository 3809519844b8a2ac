"""Tune a plan for a trained EDM network, and write samples of it and of UniPC for a FID.

    python examples/edm_fid.py --weights edm-cifar10-32x32-uncond-vp.pkl --code edm/ --steps 5 --count 50000 --device cuda
    pip install pytorch-fid
    python -m pytorch_fid cifar10-train/ out/edm/tuned        # and out/edm/untuned, out/edm/unipc_3

`--weights` is a pickle of EDM's releases, and `--code` a checkout of its repository, whose classes the pickle names. On
CIFAR-10 with this network papers report FIDs of 24.15 and 2.98 for UniPC at 5 and 10 calls, and of 3.93 and 2.20 for
schedules that were searched for.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import urn
from urn.adapters.conventions import edm
from urn.tuning import plan_within


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--code", type=Path, help="EDM's repository")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--starts", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/edm"))
    given = parser.parse_args(arguments)

    if given.code is not None:
        sys.path.insert(0, str(given.code))
    with given.weights.open("rb") as file:
        net = pickle.load(file)["ema"].to(given.device).eval().requires_grad_(False)
    shape = (net.img_channels, net.img_resolution, net.img_resolution)
    model = edm(lambda x, sigma: net(x, sigma).to(x.dtype), shape=shape)
    settings: dict[str, Any] = {"starts": given.starts, "held_out": given.starts, "seconds": given.seconds}
    found = urn.tune(
        model, given.steps, **settings, device=given.device, storage=given.out / "tune.db", batch_size=64, progress=True
    )
    print(found.record)
    found.save(given.out / "plan.json")
    method, grid = found.record.untuned.label.split(", ")
    plans = {
        "tuned": found.plan,
        "untuned": plan_within(model.process, method, given.steps, grid),
        "unipc_3": plan_within(model.process, "unipc_3", given.steps, "lambda"),
    }
    for name, plan in plans.items():
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for first in range(0, given.count, 256):
            seeds = urn.sample_seeds(1, min(256, given.count - first), first)
            images = urn.sample(model, plan, seeds=seeds, device=given.device)
            for place, image in enumerate(images):
                as_picture(image).save(folder / f"{first + place:06d}.png")
        print(f"{given.count} pictures in {plan.nfe} calls each: {folder}")


def as_picture(image: Tensor) -> Image.Image:
    """Pixels in [-1, 1] as 8 bits."""
    levels = (image.float().cpu() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(-1).numpy())


if __name__ == "__main__":
    main()
