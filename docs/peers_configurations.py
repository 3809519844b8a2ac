"""The settings with which docs/write_peers.py puts schedulers and samplers through the kit, as `urn check --option` has them.

What diffusers or k-diffusion has and this list has not is run with its defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

DPM, SINGLE, UNIPC = "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"
MIN = "final_sigmas_type=sigma_min"
FLOW = "use_flow_sigmas=true prediction_type=flow_prediction"
CONFIGURATIONS: dict[str, Sequence[str]] = {
    "DDIM": ("", "eta=1"),
    "DDIMParallel": ("",),
    "CogVideoXDDIM": ("",),
    "DDPM": ("", "variance_type=fixed_large", "variance_type=fixed_small_log", "variance_type=fixed_large_log"),
    "DDPMParallel": ("",),
    "DDPMWuerstchen": ("",),
    "PNDM": ("", "skip_prk_steps=true"),
    "IPNDM": ("",),
    "LMSDiscrete": ("order=1", "order=2", "order=3", "", "use_karras_sigmas=true"),
    "EulerDiscrete": ("", "use_karras_sigmas=true", "use_exponential_sigmas=true", "use_beta_sigmas=true", "s_churn=5"),
    "EulerAncestralDiscrete": ("",),
    "HeunDiscrete": ("", "use_karras_sigmas=true"),
    "KDPM2Discrete": ("",),
    "KDPM2AncestralDiscrete": ("",),
    "DPMSolverSDE": ("",),
    DPM: (
        *(f"solver_order={p}" for p in (1, 2, 3)),
        *(f"solver_order={p} algorithm_type=dpmsolver {MIN}" for p in (1, 2, 3)),
        *(f"solver_order={p} algorithm_type=sde-dpmsolver++" for p in (1, 2, 3)),
        *(f"solver_order={p} algorithm_type=sde-dpmsolver {MIN}" for p in (1, 2, 3)),
        *("solver_type=heun", "solver_order=3 lower_order_final=false", "euler_at_final=true"),
        *("use_karras_sigmas=true", "use_lu_lambdas=true", FLOW),
    ),
    SINGLE: (
        *(f"solver_order={p}" for p in (1, 2, 3)),
        *(f"solver_order={p} algorithm_type=dpmsolver {MIN}" for p in (2, 3)),
        *(f"solver_order={p} algorithm_type=sde-dpmsolver++" for p in (2, 3)),
        *("solver_order=3 solver_type=heun", "solver_order=3 solver_type=heun algorithm_type=sde-dpmsolver++"),
        "use_karras_sigmas=true",
    ),
    UNIPC: (
        *(f"solver_order={p}" for p in (1, 2, 3, 4)),
        *(f"solver_order={p} solver_type=bh1" for p in (1, 2, 3)),
        *(f"solver_order={p} predict_x0=false" for p in (1, 2, 3)),
        f"solver_type=bh1 {MIN}",
        f"predict_x0=false {MIN}",
        *("solver_order=2 lower_order_final=false", "solver_order=3 lower_order_final=false"),
        *("use_karras_sigmas=true", FLOW),
    ),
    "DEISMultistep": ("solver_order=1", "", "solver_order=3", "solver_order=3 lower_order_final=false"),
    "SASolver": (
        *(f"predictor_order={p} corrector_order={p} tau_func=0" for p in (1, 2, 3)),
        "tau_func=0 algorithm_type=noise_prediction",
        *("tau_func=1", "tau_func=1 algorithm_type=noise_prediction"),
    ),
    "EDMEuler": ("", "s_churn=5"),
    "EDMDPMSolverMultistep": (
        *("solver_order=1", "", "solver_order=3"),
        *("algorithm_type=sde-dpmsolver++", "solver_order=3 algorithm_type=sde-dpmsolver++"),
    ),
    "CosineDPMSolverMultistep": ("solver_order=1", ""),
    "FlowMatchEulerDiscrete": ("", "shift=3", "stochastic_sampling=true"),
    "FlowMatchHeunDiscrete": ("", "s_churn=5"),
    "LTXEulerAncestralRF": ("", "eta=0"),
    "MiniMaxH3": ("shift=3",),
    "ScoreSdeVe": ("", "correct_steps=0"),
}
SAMPLERS: dict[str, Sequence[str]] = {
    "sample_euler": ("", "s_churn=5"),
    "sample_heun": ("", "s_churn=5"),
    "sample_dpm_2": ("", "s_churn=5"),
    "sample_lms": ("order=1", "order=2", "order=3", ""),
    "sample_euler_ancestral": ("", "eta=0"),
    "sample_dpm_2_ancestral": ("", "eta=0"),
    "sample_dpmpp_2s_ancestral": ("", "eta=0"),
    "sample_dpmpp_sde": ("", "eta=0"),
    "sample_dpmpp_2m_sde": ("", "solver_type=heun", "eta=0"),
    "sample_dpmpp_3m_sde": ("", "eta=0"),
    "sample_dpmpp_2m": ("",),
    "sample_dpm_fast": ("", "eta=1"),
    "sample_dpm_adaptive": ("", "order=2"),
}
