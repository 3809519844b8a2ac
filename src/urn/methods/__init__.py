"""The registry: every method under its name, and the names that users of other libraries know.

Adding a method: write the function in its family's file, add its name here, and a line in the table of its tests.
"""

from __future__ import annotations

import difflib

from urn.method import Method
from urn.methods.adams import adams, adams_pc
from urn.methods.ddim import ddim
from urn.methods.ddpm import ddpm, ddpm_interpolated, ddpm_large, iddpm
from urn.methods.deis import (
    deis,
    deis_log_rho_lower_final,
    deis_log_rho_ramped,
    deis_ramped,
    deis_rho,
    deis_rho_kutta_3,
    deis_rho_ramped,
    deis_rho_rk4,
)
from urn.methods.dpm_solver import dpm_solver_2, dpm_solver_3, dpm_solver_fast
from urn.methods.dpmpp import (
    dpmpp_2m,
    dpmpp_2m_lower_final,
    dpmpp_2s,
    dpmpp_3m,
    dpmpp_3m_published,
    dpmpp_3m_published_lower_final,
    dpmpp_3s,
)
from urn.methods.dpmpp_sde import (
    dpmpp_1_sde,
    dpmpp_2m_sde,
    dpmpp_2m_sde_heun,
    dpmpp_2s_ancestral,
    dpmpp_3m_sde,
    dpmpp_3m_sde_published,
    dpmpp_sde,
    sde_dpm_solver_1,
    sde_dpm_solver_2m,
)
from urn.methods.edm import edm, heun
from urn.methods.langevin import annealed_langevin
from urn.methods.score_sde import (
    euler_maruyama,
    predictor_corrector,
    probability_flow,
    probability_flow_heun,
    probability_flow_rk4,
    reverse_diffusion,
)
from urn.methods.unipc import unip, unipc, unipc_lower_final

_METHODS: tuple[Method, ...] = (
    ddim,
    ddim.named("euler_ancestral", eta=1.0),
    ddpm,
    ddpm_large,
    ddpm_interpolated,
    iddpm,
    heun,
    edm,
    probability_flow,
    probability_flow_heun,
    probability_flow_rk4,
    reverse_diffusion,
    euler_maruyama,
    predictor_corrector,
    annealed_langevin,
    dpm_solver_2,
    dpm_solver_3,
    dpm_solver_fast,
    dpmpp_2s,
    dpmpp_3s,
    dpmpp_2m,
    dpmpp_3m,
    dpmpp_3m_published,
    dpmpp_2m_lower_final,
    dpmpp_3m_published_lower_final,
    dpmpp_1_sde,
    dpmpp_2m_sde,
    dpmpp_2m_sde_heun,
    dpmpp_3m_sde,
    dpmpp_3m_sde_published,
    dpmpp_sde,
    dpmpp_2s_ancestral,
    sde_dpm_solver_1,
    sde_dpm_solver_2m,
    *(family.named(f"{family.name}_{p}", order=p) for family in (deis, deis_rho) for p in (2, 3, 4)),
    *(
        family.named(f"{family.name.removesuffix('_ramped')}_{p}_ramped", order=p)
        for family in (deis_ramped, deis_rho_ramped)
        for p in (3, 4)
    ),
    deis_log_rho_ramped,
    deis_log_rho_lower_final,
    deis_rho_kutta_3,
    deis_rho_rk4,
    *(family.named(f"{family.name}_{p}", order=p) for family in (adams, adams_pc) for p in (2, 3, 4)),
    unip,
    unipc,
    unipc_lower_final,
    *(family.named(f"{family.name}_{p}", order=p) for family in (unip, unipc) for p in (1, 2, 3, 4, 5)),
    *(family.named(f"{family.name}_{p}_bh1", order=p, size="bh1") for family in (unip, unipc) for p in (2, 3)),
    *(
        family.named(f"{family.name}_{p}_epsilon", order=p, prediction="epsilon")
        for family in (unip, unipc)
        for p in (2, 3)
    ),
)

ALIASES: dict[str, str] = {
    "euler": "ddim",
    "dpm_solver_1": "ddim",
    "dpmpp_1": "ddim",
    "deis_1": "ddim",
    "euler_a": "euler_ancestral",
    "deis_rho_heun": "heun",
}

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
METHODS.update({alias: METHODS[name] for alias, name in ALIASES.items()})


def find_method(name: str) -> Method:
    """The method of a name or alias, or a ValueError with the nearest names."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"method={name!r} is unknown; {hint}`urn methods` lists all {len(METHODS)}")
    return METHODS[name]
