"""The table of conventions: what each constructor takes for granted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """One row: a network's convention in its own code's letters.

    Attributes:
        name: its constructor.
        whose: whose code this is.
        state: how data and noise are mixed, in the letters of that code.
        at_noise, at_data: what the network is shown at either end, with the constructor's defaults.
        shown: what it is shown in between.
        output: what it returns.
        process: the process it becomes here.
        source: where this was read.
    """

    name: str
    whose: str
    state: str
    at_noise: float
    at_data: float
    shown: str
    output: str
    process: str
    source: str


CONVENTIONS = (
    Convention(
        "flow_matching",
        "facebookresearch/flow_matching",
        "alpha_t x_1 + sigma_t x_0; x_1 data, x_0 noise",
        0.0,
        1.0,
        "t",
        "velocity alpha' x_1 + sigma' x_0; x_1; x_0",
        "`Flow`, `Polynomial`, `Trigonometric`, `VP.linear`, `LinearSignal`",
        "path/scheduler/scheduler.py, path/affine.py, utils/model_wrapper.py",
    ),
    Convention(
        "sit",
        "willisma/SiT",
        "alpha_t x_1 + sigma_t x_0; x_1 data, x_0 noise",
        0.0,
        1.0,
        "t",
        "velocity alpha' x_1 + sigma' x_0; score -x_0/sigma; noise x_0",
        "`Flow`, `Trigonometric`, `VP.linear`",
        "transport/path.py, transport/transport.py",
    ),
    Convention(
        "rectified_flow",
        "gnobitab/RectifiedFlow",
        "t x_1 + (1 - t) x_0; x_1 data, x_0 noise",
        0.0,
        999.0,
        "999 t",
        "velocity x_1 - x_0",
        "`Flow`",
        "ImageGeneration/losses.py",
    ),
    Convention(
        "stochastic_interpolant",
        "malbergo/stochastic-interpolants",
        "a_t x_0 + b_t x_1 + gamma_t z; x_0 base, x_1 data",
        0.0,
        1.0,
        "t, of shape (1,)",
        "drift dx/dt; eta = -E[z]; score",
        "`Interpolant`, `Flow`, `Trigonometric`",
        "interflow/fabrics.py, interflow/stochastic_interpolant.py",
    ),
    Convention(
        "sd3",
        "Stability-AI/sd3.5; diffusers' FlowMatch pipelines",
        "(1 - sigma) x0 + sigma noise",
        1000.0,
        0.0,
        "1000 sigma",
        "velocity noise - x0",
        "`Flow`",
        "sd3_impls.py; schedulers/scheduling_flow_match_euler_discrete.py",
    ),
    Convention(
        "flux",
        "black-forest-labs/flux; diffusers' Flux transformer",
        "(1 - t) x0 + t noise",
        1.0,
        0.0,
        "t",
        "velocity noise - x0",
        "`Flow`",
        "src/flux/sampling.py",
    ),
    Convention(
        "edm",
        "NVlabs/edm, NVlabs/edm2",
        "y + sigma n",
        80.0,
        0.002,
        "sigma",
        "denoised y",
        "`VE`",
        "training/networks.py, training/networks_edm2.py, generate.py",
    ),
    Convention(
        "edm_raw",
        "the network inside NVlabs/edm's EDMPrecond",
        "y + sigma n, times c_in",
        1.0955,
        -1.5537,
        "log(sigma)/4",
        "F, with y = c_skip x + c_out F",
        "`VE`",
        "training/networks.py",
    ),
    Convention(
        "k_diffusion",
        "crowsonkb/k-diffusion, ComfyUI",
        "x0 + sigma noise",
        80.0,
        0.002,
        "sigma",
        "denoised x0",
        "`VE`",
        "k_diffusion/external.py, k_diffusion/sampling.py",
    ),
    Convention(
        "ddpm",
        "DDPM, openai/improved-diffusion, openai/guided-diffusion, latent diffusion",
        "sqrt(abar_t) x0 + sqrt(1 - abar_t) noise",
        999.0,
        0.0,
        "t, an integer; or 1000 t/T",
        "noise; x0; v; with a variance in further channels",
        "`VP.from_betas`",
        "guided_diffusion/gaussian_diffusion.py, guided_diffusion/respace.py",
    ),
    Convention(
        "score_sde",
        "yang-song/score_sde_pytorch",
        "mean_t x0 + std_t z",
        999.0,
        0.0,
        "999 t on VP and sub-VP, sigma on VE",
        "z on VP and sub-VP, score on VE",
        "`VP.linear`, `SubVP`, `VE`",
        "models/utils.py, sde_lib.py",
    ),
)


def table() -> str:
    """`CONVENTIONS` as a table in Markdown: the one of the page on conventions."""
    lines = [
        "| constructor | whose networks | state | shown at noise, at data | shown | returns | here |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in CONVENTIONS:
        ends = f"{row.at_noise:g}, {row.at_data:g}"
        lines.append(
            f"| `{row.name}` | {row.whose} | {row.state} | {ends} | {row.shown} | {row.output} | {row.process} |"
        )
    return "\n".join(lines)
