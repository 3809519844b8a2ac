"""Digits from a trained UNet2DModel through the unchanged DDPMPipeline: `python examples/digits_unet.py [--count 2000]`.

The network is `examples/digits_unet`, which `examples/train_digits_unet.py` trained and saved. In 8 and in 10 model calls it
draws digits with diffusers' schedulers and with Urn's plans, each from the same noise, and says how far they are from digits
that were held out: the Fréchet distance of the 64 pixels, and its 95 % interval over the samples.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMPipeline, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from urn.adapters.diffusers import UrnScheduler
from urn.metrics import bootstrap, frechet_distance
from urn.nets import digits


class UniPC(UniPCMultistepScheduler):
    """DDPMPipeline hands every scheduler a generator, which this one does not take."""

    def step(self, *given, generator=None, **named):
        return super().step(*given, **named)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--count", type=int, default=2000)
parser.add_argument("--calls", type=int, nargs="+", default=[8, 10])
chosen = parser.parse_args()

pipe = DDPMPipeline.from_pretrained(
    Path(__file__).with_name("digits_unet"), torch_dtype=torch.float32, low_cpu_mem_usage=False
)
pipe.set_progress_bar_config(disable=True)
config, (held_out, _), (train, _) = pipe.scheduler.config, digits("test"), digits("train")
rows = {
    "DDIMScheduler": DDIMScheduler.from_config(config),
    "DPMSolverMultistepScheduler": DPMSolverMultistepScheduler.from_config(config),
    "UniPCMultistepScheduler": UniPC.from_config(config),
    **{
        f"UrnScheduler {method}, {grid or 'times as above'}": UrnScheduler.from_config(
            DPMSolverMultistepScheduler.from_config(config).config, method=method, grid=grid
        )
        for method, grid in (
            ("dpmpp_2m_lower_final", None),
            ("dpmpp_2m", "quadratic"),
            ("unipc_3", "quadratic"),
            ("adams_pc_3", "quadratic"),
        )
    },
}
print(f"Fréchet distance of {chosen.count} digits to {len(held_out)} held-out ones; of the real training digits")
print(f"  {frechet_distance(train, held_out):.3f}")
for calls in chosen.calls:
    print(f"in {calls} model calls")
    for name, scheduler in rows.items():
        pipe.scheduler = scheduler
        generator = torch.Generator().manual_seed(0)
        images = pipe(batch_size=chosen.count, num_inference_steps=calls, generator=generator, output_type="pt").images
        found = bootstrap(frechet_distance, 2 * images - 1, held_out, resamples=100, resample="samples")
        print(f"  {name:50} {found.estimate:.3f}   [{found.low:.3f}, {found.high:.3f}]", flush=True)
