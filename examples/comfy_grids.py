"""ComfyUI's schedulers beside grids computed for a method and for the data: `python examples/comfy_grids.py`.

The latents are a Gaussian with a power law, so every error is exact. The sampler is the function that a ComfyUI node gives to
KSAMPLER, on the noise levels of Stable Diffusion 1.5 and of a flow with shift 3, with 8 steps.
"""

from functools import partial

import torch

import urn
from urn.adapters.k_diffusion import sampler

STEPS = 8
variances = urn.grids.natural_spectrum(16, exponent=2.0, data_std=1.0)
data = urn.exact.Gaussian(torch.zeros(256), variances)
tables = {
    "Stable Diffusion 1.5": urn.VP.from_betas(urn.processes.scaled_linear_betas()),
    "flow, shift 3": urn.Flow(shift=3.0),
}
for name, trained in tables.items():
    process = urn.Flow() if isinstance(trained, urn.Flow) else urn.VE()  # x as ComfyUI's samplers see it

    def denoiser(x, sigma, process=process, **extra):
        return data.x0(x, process, float(sigma[0]))

    def error(method, grid, trained=trained, process=process, denoiser=denoiser):
        times = urn.grids.grid_times(trained, STEPS, grid)
        sigmas = trained.sigma(times) if process == urn.Flow() else trained.sigma(times) / trained.alpha(times)
        scale = torch.sqrt(process.alpha(sigmas[0]) ** 2 * variances + sigmas[0] ** 2)
        start = scale * torch.randn(64, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        drawn = sampler(method, process=process)(denoiser, start, sigmas, disable=True)
        exact = data.flow(start, process, float(sigmas[0]), 0.0)
        return float((drawn - exact).square().mean().sqrt())

    print(f"{name}: rms distance from the exact flow's end, std 1, {STEPS} steps")
    for method in ("euler", "dpm_2", "dpmpp_2s"):
        grids = {
            **{grid: grid for grid in ("simple", "normal", "karras_clean", "beta57", "bong_tangent", "kl_optimal")},
            "gits": partial(urn.grids.gits, method=method, variances=variances, data_std=1.0),
            "optimal_steps": partial(urn.grids.optimal_steps, method=method, variances=variances, data_std=1.0),
        }
        errors = {label: error(method, grid) for label, grid in grids.items()}
        print(f"  {method:9}" + ", ".join(f"{label} {value:.3f}" for label, value in errors.items()))
