"""Train a diffusers UNet2DModel on scikit-learn's digits, as diffusers' own scripts do: `python examples/train_digits_unet.py`.

It takes ten minutes of one core and writes `examples/digits_unet`, a DDPMPipeline that `examples/digits_unet.py` draws from;
so does `urn sample examples/digits_unet`. The weights there are what this script wrote, in half precision.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel

from urn.nets import digits

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, default=Path(__file__).with_name("digits_unet"))
parser.add_argument("--steps", type=int, default=5000)
chosen = parser.parse_args()

torch.manual_seed(0)
images, _ = digits("train")
unet = UNet2DModel(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(24, 48),
    layers_per_block=1,
    norm_num_groups=8,
    attention_head_dim=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
scheduler = DDPMScheduler(clip_sample=False)
optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3, weight_decay=1e-3)
rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, chosen.steps, pct_start=0.05)
average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
print(f"{sum(p.numel() for p in unet.parameters()):,} parameters, {chosen.steps} updates")
for step in range(chosen.steps):
    clean = images[torch.randint(len(images), (64,))]
    noise, t = torch.randn_like(clean), torch.randint(1000, (len(clean),))
    predicted = unet(scheduler.add_noise(clean, noise, t), t).sample
    loss = torch.nn.functional.mse_loss(predicted, noise)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
    optimizer.step()
    rate.step()
    average.step(unet.parameters())
    if step % 500 == 0:
        print(f"  update {step}: loss {loss.item():.4f}", flush=True)
average.copy_to(unet.parameters())
DDPMPipeline(unet.half(), scheduler).save_pretrained(chosen.out)
print(f"written: {chosen.out}")
