"""Every scheduler of diffusers: the method of Urn that it is, what differs where it is none, or why neither can be said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from adapters_agreement import distance, on_the_grid, plms

AGREES, AGREES_32 = 1e-12, 3e-5  # the table's bounds, in float64 and as the schedulers are


@dataclass(frozen=True)
class Pair:
    """A scheduler with some settings, and a method. `shown`: whether the network looks at the time; `jump`: whether the plan
    ends with a jump to the clean prediction."""

    name: str
    method: Any
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    agrees: bool = True
    steps: int = 10
    shown: bool = True
    step: dict[str, Any] = field(default_factory=dict)
    jump: bool = False

    def distance(self, double: bool = True) -> float:
        """See `adapters_agreement.distance`."""
        given = (self.name, self.method, self.config, self.options)
        return distance(*given, self.steps, double, self.shown, self.step, self.jump)

    def __str__(self) -> str:
        config = {key: value for key, value in {**self.config, **self.step}.items() if key != "clip_sample"}
        words = [f"{key}={value.__name__ if callable(value) else value!r}" for key, value in config.items()]
        return ", ".join([*words, *([] if self.steps == 10 else [f"{self.steps} steps"])])

    @property
    def in_words(self) -> str:
        """The method and its options."""
        named = self.method if isinstance(self.method, str) else f"{self.method.name} (of the tests)"
        return ", ".join([named, *(f"{key}={value!r}" for key, value in self.options.items())])


def constant(t: Any) -> Any:
    """tau = 0.7"""
    return torch.tensor(0.7)


KEEP = {"clip_sample": False}
TRAILING, LEADING = {"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}
V = {"prediction_type": "v_prediction"}
SNR = {"rescale_betas_zero_snr": True, **TRAILING, **V}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
SDE = {"algorithm_type": "sde-dpmsolver++"}
INTEGER = "with a network that does not look at the time: it is shown its noise level's here, an integer there"
ORDERS = "another method: the stages stand on the grid's points"
PAIRS = (
    Pair("DDIM", "ddim", KEEP),
    Pair("DDIM", "ddim", KEEP | SNR),
    Pair("DDIM", "ddim", KEEP, {"eta": 0.5}, step={"eta": 0.5}),
    Pair("DDIM", "ddim", KEEP | TRAILING, {}, "it steps to t - T // N and calls at the grid's next t", False, 30),
    Pair("DDIMParallel", "ddim", KEEP),
    Pair("DDPM", "ddpm", KEEP),
    Pair("DDPM", "ddpm", KEEP | V),
    Pair("DDPM", "ddpm", KEEP | V | TRAILING, {}, "it adds noise of std 1e-10 to the clean sample", False),
    Pair("DDPM", "ddpm_large", KEEP | {"variance_type": "fixed_large"}),
    Pair(
        "DDPM",
        "ddpm_large",
        KEEP | {"variance_type": "fixed_large"} | TRAILING,
        {},
        "it adds the noise of its last t > 0 to the clean sample",
        False,
    ),
    Pair("DDPMParallel", "ddpm", KEEP),
    Pair("CogVideoXDDIM", "ddim", SNR),
    Pair("EulerDiscrete", "euler", TRAILING),
    Pair("EulerDiscrete", "euler", LEADING | V),
    Pair("EulerDiscrete", "euler", {"use_karras_sigmas": True}),
    Pair("EulerDiscrete", "euler", {}, {}, "at a fractional t sigma is linear there, log-linear here", False, 7),
    Pair("EulerAncestralDiscrete", "euler_ancestral", TRAILING),
    Pair("HeunDiscrete", "heun", TRAILING),
    Pair("HeunDiscrete", "heun", {"use_karras_sigmas": True}),
    Pair("KDPM2Discrete", "dpm_2", TRAILING),
    Pair("KDPM2AncestralDiscrete", "dpm_2_ancestral", TRAILING),
    Pair("LMSDiscrete", "lms", TRAILING),
    Pair("LMSDiscrete", "lms", {"use_karras_sigmas": True}),
    Pair("DPMSolverSDE", "dpmpp_sde", TRAILING, {}, "needs torchsde; its Brownian tree replaced by the same draws"),
    Pair("PNDM", "pndm", LEADING),
    Pair(
        "PNDM", plms, {"skip_prk_steps": True, "steps_offset": 1}, {}, "its start is of order 2; `pndm` starts with RK4"
    ),
    Pair("PNDM", "pndm", {"skip_prk_steps": True, "steps_offset": 1}, {}, "as said in the line above", False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final"),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", V | LEADING | {"steps_offset": 1}),
    Pair("DPMSolverMultistep", "dpmpp_3m_published_lower_final", {"solver_order": 3}),
    Pair("DPMSolverMultistep", "dpmpp_2m_sde", SDE, {}, "with final='x0' for the last step", steps=20, jump=True),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", {"use_karras_sigmas": True}, {}, INTEGER, shown=False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", {"use_karras_sigmas": True}, {}, "the rounded time", False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", {"use_exponential_sigmas": True}, {}, INTEGER, shown=False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", {"use_beta_sigmas": True}, {}, INTEGER, shown=False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", {"use_lu_lambdas": True}, {}, INTEGER, shown=False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", FLOW, {}, INTEGER, shown=False),
    Pair("DPMSolverMultistep", "dpmpp_2m_lower_final", SNR, {}, "alpha at the start is 2^-12 there, 0 here", False),
    Pair(
        "DPMSolverMultistep", "dpmpp_2m", {}, {}, "below 15 steps it ends with order 1: `dpmpp_2m_lower_final`", False
    ),
    Pair("UniPCMultistep", "unipc_lower_final", {}, {"order": 2}),
    Pair("UniPCMultistep", "unipc_lower_final", {"solver_order": 3} | V, {"order": 3}),
    Pair("UniPCMultistep", "unipc_lower_final", {"use_karras_sigmas": True}, {"order": 2}, INTEGER, shown=False),
    Pair("UniPCMultistep", "unipc_lower_final", FLOW, {"order": 2}, INTEGER, shown=False),
    Pair(
        "UniPCMultistep",
        "unipc_3",
        {"solver_order": 3},
        {},
        "starts and ends with lower orders: 2.0 fitted, 3.7",
        False,
    ),
    Pair("DEISMultistep", "deis_log_rho_lower_final", {}, {"order": 2}),
    Pair("DEISMultistep", "deis_log_rho_lower_final", {"solver_order": 3} | V, {"order": 3}),
    Pair(
        "DEISMultistep", "deis_3", {"solver_order": 3}, {}, "polynomial in log rho, the paper's in t; lower ends", False
    ),
    Pair(
        "SASolver", "sa_solver_published_lower_final", {"tau_func": constant}, {"order": 2, "corrector": 2, "tau": 0.7}
    ),
    Pair("DPMSolverSinglestep", "ddim", {"solver_order": 1}),
    Pair("DPMSolverSinglestep", on_the_grid(2), {"solver_order": 2}, {}, ORDERS),
    Pair("DPMSolverSinglestep", on_the_grid(3), {"solver_order": 3}, {}, ORDERS),
    Pair("DPMSolverSinglestep", "dpmpp_2s", {"solver_order": 2}, {}, ORDERS, False),
    Pair("FlowMatchEulerDiscrete", "euler", {"shift": 3.0}),
    Pair("FlowMatchEulerDiscrete", "euler", {"use_karras_sigmas": True}),
    Pair("FlowMatchHeunDiscrete", "probability_flow_heun", {"shift": 3.0}),
)

DISTILLED = "for a network distilled to few steps, which is no prediction of a process"
TOKENS = "for tokens"
REFUSED = {
    "CMStochasticIterative": DISTILLED,
    "ConsistencyDecoder": DISTILLED,
    "FlowMapEulerDiscrete": DISTILLED,
    "FlowMatchLCM": DISTILLED,
    "HeliosDMD": DISTILLED,
    "LCM": DISTILLED,
    "Piflow": DISTILLED,
    "SCM": DISTILLED,
    "TCD": DISTILLED,
    "Amused": TOKENS,
    "BlockRefinement": TOKENS,
    "DiscreteDDIM": TOKENS,
    "EntropyBound": TOKENS,
    "VQDiffusion": TOKENS,
    "CosineDPMSolverMultistep": "its network is preconditioned as EDM's; needs torchsde",
    "EDMDPMSolverMultistep": "its network is preconditioned; the plan is `dpmpp_2m_lower_final` "
    "(tests/methods/test_diffusers_flows.py)",
    "EDMEuler": "its network is preconditioned; the plan is `euler` (the same file)",
    "KarrasVe": "called with two sigmas and a corrector of its own; the paper's method is `edm`",
    "ScoreSdeVe": "called in two parts; `predictor_corrector` corrects once less, with a step size per sample "
    "(tests/methods/test_diffusers_score_sde.py); `urn.adapters.diffusers.load` opens its pipeline",
    "ScoreSdeVp": "its step takes a score; the paper's is `euler_maruyama`",
    "DDIMInverse": "inversion is the same method on increasing times; it calls the network at the time it goes to",
    "DPMSolverMultistepInverse": "inversion is the same method on increasing times",
    "CogVideoXDPM": "`UrnScheduler` takes its config; its own step is called with the prediction before, which no other is",
    "DDPMWuerstchen": "its times are 1 ... 0 on a cosine without a table",
    "Helios": "its stages have resolutions of their own",
    "IPNDM": "its times are angles on a circle without a table. There it is `ipndm` after its first step, which does not depend "
    "on the network (at alpha = 0 it divides 0 by 1e-8)",
    "LTXEulerAncestralRF": "of one pipeline, with a shift of its own; not compared",
    "MiniMaxH3": "its network predicts the velocity towards the data, and is shown 1 - sigma",
    "RePaint": "inpaints by jumps back and forth with the mask in its step",
    "RFD4Proteina": "a flow per modality with scores rescaled in time",
    "UnCLIP": "its step is told where it goes to; DDPM's formulas, not compared",
}


def table() -> str:
    """The tables of docs/diffusers.md."""
    lines = ["| scheduler | settings | Urn | difference | |", "|---|---|---|---|---|"]
    for pair in PAIRS:
        found = "" if pair.agrees else f"{pair.distance():.0e}".replace("e-0", "e-")
        lines.append(f"| {pair.name} | {str(pair) or '-'} | `{pair.in_words}` | {found} | {pair.note} |")
    lines += ["", "| no counterpart | why |", "|---|---|", *(f"| {name} | {why} |" for name, why in REFUSED.items())]
    return "\n".join(lines)
