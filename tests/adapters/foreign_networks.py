"""One mixture written as a network in every convention of `urn.adapters.conventions`, from the conventions' own formulas.

Nothing of Urn is used: each network is E[data | x] and E[noise | x] of x = a data + s noise, weighted as that code weights them.
"""

from __future__ import annotations

import math

import torch

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[0.9, 0.2, -0.4], [-0.7, 0.5, 0.3], [0.1, -0.9, 0.6]], dtype=torch.float64)
VARIANCES = torch.tensor([[0.05, 0.02, 0.1], [0.03, 0.08, 0.04], [0.1, 0.02, 0.05]], dtype=torch.float64)


def data(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    k = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return MEANS[k] + VARIANCES[k].sqrt() * torch.randn(count, 3, generator=generator, dtype=torch.float64)


def posterior(x, a, s):
    """E[data | x] and E[noise | x] for x = a data + s noise, a and s (B, 1)."""
    a, s, x = a[:, None], s[:, None], x[:, None]
    total = a**2 * VARIANCES + s**2
    white = (x - a * MEANS) / total
    share = (WEIGHTS.log() - 0.5 * ((x - a * MEANS) * white + total.log()).sum(2)).softmax(1)[..., None]
    return (share * (MEANS + a * VARIANCES * white)).sum(1), (share * s * white).sum(1)


# flow_matching's and SiT's paths, t from 0 = noise to 1 = data: alpha, sigma, alpha', sigma'
def vp(t):
    """beta from 0.1 to 20 against time: log alpha = -(1 - t)^2 (20 - 0.1)/4 - (1 - t) 0.1/2."""
    log_alpha = -((1 - t) ** 2) * 19.9 / 4 - (1 - t) * 0.05
    slope, alpha = (1 - t) * 19.9 / 2 + 0.05, log_alpha.exp()
    sigma = torch.sqrt(-torch.expm1(2 * log_alpha))
    return alpha, sigma, alpha * slope, -(alpha**2) * slope / sigma


def circle(t):
    angle = t * math.pi / 2
    return angle.sin(), angle.cos(), math.pi / 2 * angle.cos(), -math.pi / 2 * angle.sin()


PATHS = {
    "cond_ot": lambda t: (t, 1 - t, torch.ones_like(t), -torch.ones_like(t)),
    "cosine": circle,
    "vp": vp,
    "linear_vp": lambda t: (t, (1 - t**2) ** 0.5, torch.ones_like(t), -t / (1 - t**2) ** 0.5),
    "polynomial": lambda t: (t**3, 1 - t**3, 3 * t**2, -3 * t**2),
}


def towards_data(path, predicts="velocity"):
    """A network of flow_matching or SiT."""

    def net(x, t):
        a, s, da, ds = (value[:, None] for value in PATHS[path](t))
        clean, noise = posterior(x, a, s)
        return {"velocity": da * clean + ds * noise, "x0": clean, "epsilon": noise, "score": -noise / s}[predicts]

    return net


def rectified_flow(x, t):
    return towards_data("cond_ot")(x, t / 999)


def flux(x, t):
    clean, noise = posterior(x, 1 - t[:, None], t[:, None])
    return noise - clean


def sd3(x, t):
    return flux(x, t / 1000)


def edm(x, sigma):
    return posterior(x, torch.ones_like(sigma)[:, None], sigma[:, None])[0]


def edm_raw(sigma_data):
    """F of EDM: solved from D = c_skip x + c_out F for x = input / c_in."""

    def net(scaled, c_noise):
        sigma = torch.exp(4 * c_noise)[:, None]
        r = (sigma**2 + sigma_data**2) ** 0.5
        x = scaled * r
        return (edm(x, sigma[:, 0]) - sigma_data**2 / r**2 * x) / (sigma * sigma_data / r)

    return net


def abar(betas):
    return torch.cumprod(1 - betas, 0)


LINEAR = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
SCALED = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
F = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
COSINE = torch.clamp(1 - F[1:] / F[:-1], max=0.999)


def ddpm(betas, predicts="epsilon"):
    """The table at integer times; log-linear in the signal-to-noise ratio between them, and held beyond its ends."""
    table = abar(betas)
    ratios = 0.5 * torch.log(table / (1 - table))

    def net(x, t):
        t = t.double().clamp(0, len(table) - 1)
        low = t.floor().long().clamp(max=len(table) - 2)
        ratio = torch.lerp(ratios[low], ratios[low + 1], t - low)[:, None]
        a, s = torch.sigmoid(2 * ratio).sqrt(), torch.sigmoid(-2 * ratio).sqrt()
        clean, noise = posterior(x, a, s)
        return {"epsilon": noise, "x0": clean, "v": a * noise - s * clean}[predicts]

    return net


def score_sde_vp(x, t):
    """epsilon, shown 999 t."""
    a, s, *_ = (value[:, None] for value in vp(1 - t / 999))
    return posterior(x, a, s)[1]


def score_sde_sub_vp(x, t):
    a = vp(1 - t / 999)[0][:, None]
    return posterior(x, a, 1 - a**2)[1]


def score_sde_ve(x, sigma):
    return -posterior(x, torch.ones_like(sigma)[:, None], sigma[:, None])[1] / sigma[:, None]
