"""What peers' documentation says of their samplers, and why some are not run."""

from __future__ import annotations

from typing import Any

LAW = "no order of its law is documented; that the law converges at all, at order 1, is asked"
EULER = "one Euler step, in the variable that it is exact in for one data point"

# by the class's name without "Scheduler"; `order` may be the name of an option that holds it
DETERMINISTIC: dict[str, tuple[int | str, str]] = {
    "DDIM": (1, f"Song et al. 2021, arXiv 2010.02502: {EULER}"),
    "DDIMParallel": (1, "as DDIM"),
    "CogVideoXDDIM": (1, "as DDIM"),
    "EulerDiscrete": (1, "its name"),
    "EDMEuler": (1, "its name"),
    "FlowMatchEulerDiscrete": (1, "its name"),
    "LTXEulerAncestralRF": (1, "its name; eta = 0"),
    "MiniMaxH3": (1, "its docstring: Euler"),
    "HeunDiscrete": (2, "Karras et al. 2022, arXiv 2206.00364, algorithm 1"),
    "FlowMatchHeunDiscrete": (2, "its name"),
    "KDPM2Discrete": (2, "its docstring: DPM-Solver-2"),
    "LMSDiscrete": ("order", "the docstring of step: the order of the linear multistep method, 4 by default"),
    "PNDM": (2, "Liu et al. 2022, arXiv 2202.09778: convergence of order two"),
    "IPNDM": (4, "its docstring: fourth-order"),
    "DPMSolverMultistep": ("solver_order", "its docstring: the order"),
    "DPMSolverSinglestep": ("solver_order", "its docstring: the order"),
    "EDMDPMSolverMultistep": ("solver_order", "its docstring: the order"),
    "DEISMultistep": ("solver_order", "its docstring: the order"),
    "SASolver": ("predictor_order", "its docstring: the predictor's order; at tau = 0 an Adams method"),
    "UniPCMultistep": ("solver_order", "its docstring: the effective order is solver_order + 1 due to the UniC"),
}

DRAWS = (
    "DDPM",
    "DDPMParallel",
    "DDPMWuerstchen",
    "EulerAncestralDiscrete",
    "KDPM2AncestralDiscrete",
    "DPMSolverSDE",
    "CosineDPMSolverMultistep",
    "ScoreSdeVe",
)

_DISCRETE = "samples tokens, not states of a diffusion"
_DISTILLED = "made for a distilled network: it jumps to its answer and adds noise anew, and converges to nothing"
_CONSISTENCY = "made for a consistency model, whose answer is not a prediction at its own time"
_INVERSE = "runs from the data to the noise, and the kit's grids run to the data"
_DEPRECATED = "deprecated: its step is a protocol of its own old pipeline"

NOT_RUN: dict[str, str] = {
    "Amused": _DISCRETE,
    "BlockRefinement": _DISCRETE,
    "DiscreteDDIM": _DISCRETE,
    "EntropyBound": _DISCRETE,
    "VQDiffusion": _DISCRETE,
    "CMStochasticIterative": _CONSISTENCY,
    "ConsistencyDecoder": _CONSISTENCY,
    "SCM": _CONSISTENCY,
    "LCM": _DISTILLED,
    "TCD": _DISTILLED,
    "FlowMatchLCM": _DISTILLED,
    "HeliosDMD": _DISTILLED,
    "Piflow": _DISTILLED,
    "FlowMapEulerDiscrete": "made for a flow map, a network of two times",
    "Helios": "runs in stages of growing resolution, with noise between them",
    "RFD4Proteina": "made for coordinates of proteins: its grid and its noise are the model's own",
    "CogVideoXDPM": "its step takes earlier predictions and times from its pipeline's loop, and not from its own memory",
    "RePaint": "needs an image and a mask",
    "UnCLIP": "has one table of its own and takes no other",
    "DDIMInverse": _INVERSE,
    "DPMSolverMultistepInverse": _INVERSE,
    "KarrasVe": _DEPRECATED,
    "ScoreSdeVp": _DEPRECATED,
}


# by the function's name without "sample_"
K_DIFFUSION: dict[str, tuple[int | str, str]] = {
    "euler": (1, "Karras et al. 2022, arXiv 2206.00364: Euler steps"),
    "heun": (2, "Karras et al. 2022, arXiv 2206.00364: algorithm 2"),
    "dpm_2": (2, "its docstring: DPM-Solver-2"),
    "lms": ("order", "its argument order, 4 by default"),
    "dpm_fast": (3, "Lu et al. 2022, arXiv 2206.00927: DPM-Solver-fast, of order 3"),
    "dpmpp_2m": (2, "Lu et al. 2022, arXiv 2211.01095: the 2 in 2M"),
    "dpmpp_2s_ancestral": (2, "Lu et al. 2022, arXiv 2211.01095: the 2 in 2S; eta = 0"),
    "dpm_2_ancestral": (2, "its docstring: second-order steps; eta = 0"),
    "dpmpp_sde": (2, "Lu et al. 2022, arXiv 2211.01095: two stages; eta = 0"),
    "dpmpp_2m_sde": (2, "Lu et al. 2022, arXiv 2211.01095: the 2 in 2M; eta = 0"),
    "dpmpp_3m_sde": (3, "the 3 in 3M; eta = 0"),
    "euler_ancestral": (1, "Euler steps; eta = 0"),
}


def documented(table: dict[str, tuple[int | str, str]], name: str, options: dict[str, Any]) -> tuple[int | None, str]:
    """The order that a deterministic sampler's documentation gives, and a line on where; `options` with their defaults."""
    if name not in table:
        return None, "no order is documented"
    order, reason = table[name]
    value = int(options[order]) if isinstance(order, str) else order
    if name == "UniPCMultistep":
        value += 1
    return value, f"documented order {value}: {reason}"


def is_stochastic(name: str, options: dict[str, Any]) -> bool:
    """Whether a scheduler of diffusers draws noise with these options, defaults included."""
    if name == "SASolver":
        return options["tau_func"] is None or options["tau_func"] != 0
    algorithm = str(options.get("algorithm_type", ""))
    asked = any(float(options.get(key) or 0) > 0 for key in ("eta", "s_churn"))
    return name in DRAWS or algorithm.startswith("sde") or asked or bool(options.get("stochastic_sampling"))
