"""Diffusions: networks of EDM, k-diffusion, DDPM and its descendants, and score_sde."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from urn.model import Model
from urn.processes import VE, VP, SubVP, cosine_betas, linear_betas, scaled_linear_betas

from .calls import Net, Shape, as_shape, check_predicts, checked, named, preconditioned, times, with_channels

BETAS: Mapping[str, Callable[[int], Tensor]] = {
    "linear": lambda steps: linear_betas(steps, 0.1 / steps, 20 / steps),
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
}


def edm(net: Net, sigma_min: float = 0.002, sigma_max: float = 80.0, shape: Shape = None) -> Model:
    """EDM and EDM2 as they are saved, preconditioned: net(x, sigma, ...) is the denoised x0, x = x0 + sigma epsilon.

    True of all of EDM's preconditionings (VP, VE, iDDPM, EDM), which are inside the network. Class labels and such go in
    `conditioning`.

    Sources: Karras et al. 2022, arXiv 2206.00364; Karras et al. 2024, Analyzing and Improving the Training Dynamics of
    Diffusion Models, arXiv 2312.02696.

    Example:
        >>> edm(lambda x, sigma: x).process
        VE(sigma_min=0.002, sigma_max=80.0)
    """
    return Model(checked(net), VE(sigma_min, sigma_max), "x0", as_shape(shape))


def edm_raw(
    net: Net, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0, shape: Shape = None
) -> Model:
    """The inner network F of EDM and EDM2, without its preconditioning: x0 = c_skip x + c_out F(c_in x, log(sigma)/4).

    With s = sigma_data and r^2 = sigma^2 + s^2: c_skip = s^2 / r^2, c_out = sigma s / r, c_in = 1 / r (table 1 of the paper).

    Source: Karras et al. 2022, arXiv 2206.00364.

    Example:
        >>> edm_raw(lambda x, c: 0 * x, sigma_data=1.0)(torch.ones(1, 1), t=1.0)
        (tensor([[0.5000]]),)
    """
    if not (isinstance(sigma_data, (int, float)) and 0 < sigma_data < math.inf):
        raise ValueError(f"sigma_data={sigma_data!r} must be a positive finite number")
    return edm(partial(preconditioned, checked(net), float(sigma_data)), sigma_min, sigma_max, shape)


def k_diffusion(net: Net, sigma_min: float, sigma_max: float, shape: Shape = None) -> Model:
    """A denoiser of k-diffusion or ComfyUI: net(x, sigma, **extra_args) is the denoised x0, x = x0 + sigma epsilon.

    A wrapped table of betas ends at `net.sigma_min` and `net.sigma_max`. (For Urn's methods inside those programs see
    `urn.adapters.k_diffusion`.)

    Source: Crowson 2022, k-diffusion, after Karras et al. 2022, arXiv 2206.00364.

    Example:
        >>> k_diffusion(lambda x, sigma: x, 0.03, 14.6).process.t_start
        14.6
    """
    return edm(net, sigma_min, sigma_max, shape)


def ddpm(
    net: Net,
    betas: str | Sequence[float] | Tensor | np.ndarray[Any, Any] = "linear",
    predicts: str = "epsilon",
    *,
    steps: int = 1000,
    learned_variance: bool = False,
    rescale_timesteps: bool = False,
    integer_times: bool = True,
    shape: Shape = None,
) -> Model:
    """DDPM, iDDPM, guided-diffusion, latent diffusion: net(x, t), t = 0 ... T - 1.

    x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) epsilon, abar_t the product of 1 - beta up to t.

    Args:
        net: the network; what a diffusers network returns is taken as it comes.
        betas: "linear" (DDPM's, 1e-4 to 0.02 at 1000 steps), "cosine" (iDDPM's), "scaled_linear" (Stable Diffusion's), or the
            table itself.
        predicts: "epsilon", "x0" or "v".
        steps: T, where betas are given by name.
        learned_variance: the network has twice the channels of x, the second half its variance in [-1, 1], which the method
            `iddpm` uses.
        rescale_timesteps: the network is shown t 1000/T, as with that option of guided-diffusion.
        integer_times: refuse grids with times in between; not with rescaled ones.
        shape: the shape of one sample.

    Raises:
        ValueError: an unknown name, or a table that is none.

    Sources: Ho, Jain, Abbeel 2020, arXiv 2006.11239; Nichol & Dhariwal 2021, arXiv 2102.09672; Dhariwal & Nichol 2021,
    Diffusion Models Beat GANs on Image Synthesis, arXiv 2105.05233.

    Example:
        >>> ddpm(lambda x, t: x).shown(999.0, torch.zeros(1, 1))
        tensor([999])
    """
    check_predicts(predicts, ("epsilon", "x0", "v"))
    if isinstance(betas, str) and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 2):
        raise ValueError(f"steps={steps!r} must be an integer of at least 2")
    values = named("betas", betas, BETAS)(steps) if isinstance(betas, str) else betas
    process = VP.from_betas(values)
    return Model(
        partial(with_channels, checked(net), learned_variance),
        process,
        predicts=(predicts, "variance") if learned_variance else predicts,
        shape=as_shape(shape),
        label=partial(times, 1000.0 / len(process.alphas_cumprod)) if rescale_timesteps else None,
        integer_times=integer_times and not rescale_timesteps,
    )


def score_sde(net: Net, process: VP | SubVP | VE | None = None, shape: Shape = None) -> Model:
    """Continuously trained networks of yang-song/score_sde, before its score function: on VP and sub-VP net(x, 999 t) is
    epsilon, on VE net(x, sigma) is the score.

    That code's score is -net/std on VP and sub-VP. Networks trained on discrete times: on VP they are `ddpm(net)`.

    Args:
        net: the network itself, not `get_score_fn` of it.
        process: `VP.linear()`, the default; `SubVP()`; or `VE(sigma_min=0.01, sigma_max=50.0)`.
        shape: the shape of one sample.

    Raises:
        ValueError: another process.

    Source: Song et al. 2021, Score-Based Generative Modeling through SDEs, arXiv 2011.13456.

    Example:
        >>> score_sde(lambda x, t: x, VE(0.01, 50.0)).predicts
        'score'
    """
    chosen = VP.linear() if process is None else process
    if isinstance(chosen, VE):
        return Model(checked(net), chosen, "score", as_shape(shape))
    if not isinstance(chosen, (VP, SubVP)):
        raise ValueError(f"process={process!r} must be VP.linear(...), SubVP(...) or VE(...)")
    return Model(checked(net), chosen, "epsilon", as_shape(shape), label=partial(times, 999.0))
