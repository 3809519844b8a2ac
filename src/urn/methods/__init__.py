"""The registry: every method under its name, and the names that users of other libraries know.

Adding a method: write the function in its family's file, add its name here, and a line in the table of its tests.
"""

from __future__ import annotations

import difflib

from urn.method import Method
from urn.methods.accelerated import accelerated_ddim, accelerated_ddpm
from urn.methods.adams import adams, adams_pc, res_multistep, res_multistep_ancestral
from urn.methods.aliases import ALIASES, IMPLICIT
from urn.methods.amed import amed, epd
from urn.methods.cfg_pp import (
    dpmpp_2m_cfg_pp,
    dpmpp_2s_ancestral_cfg_pp,
    euler_cfg_pp,
    gradient_estimation_cfg_pp,
    res_multistep_ancestral_cfg_pp,
    res_multistep_cfg_pp,
)
from urn.methods.dc_solver import dc_adams_pc, dc_dpmpp, dc_unipc
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
from urn.methods.dpm_solver_v3 import dpm_solver_v3, dpm_solver_v3_published
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
from urn.methods.er_sde import er_sde, er_sde_published
from urn.methods.exponential_rk import (
    cfree_4,
    etdrk3,
    etdrk3_a,
    etdrk4,
    friedli_4,
    hochbruck_ostermann_5s,
    krogstad_4,
    luan_4,
    luan_5,
    luan_alhsmy_6,
    luan_alhsmy_6_15s,
    luan_ostermann_5,
    minchev_4,
    munthe_kaas_4,
    res_2s,
    res_3s,
    res_3s_lie,
    res_3s_strehmel_weiner,
    rkmk_2e,
    strehmel_weiner_4,
)
from urn.methods.flow_grpo import cps, cps_vanishing, flow_grpo
from urn.methods.gradient_estimation import gradient_estimation
from urn.methods.iia import iia_ddim, iia_dpmpp, iia_heun
from urn.methods.k_diffusion import dpm_2, dpm_2_ancestral, heunpp_2
from urn.methods.langevin import annealed_langevin
from urn.methods.lawson import genlawson_4, lawson_2a, lawson_2b, lawson_4, modgenlawson_4, pec_423, pecec_433
from urn.methods.linear import linear
from urn.methods.momentum import ghvb, hb
from urn.methods.pndm import ipndm, pndm
from urn.methods.psld import (
    psld_euler,
    psld_heun,
    psld_symplectic_euler,
    psld_symplectic_euler_naive,
    psld_verlet,
    psld_verlet_naive,
)
from urn.methods.psld_conjugate import psld_conjugate, psld_exponential_2
from urn.methods.psld_sde import psld_euler_maruyama, psld_oba, psld_oba_naive, sscs
from urn.methods.resshift import resshift
from urn.methods.restart import restart
from urn.methods.runge_kutta import DIAGONAL, EXPLICIT, implicit_runge_kutta, runge_kutta
from urn.methods.s4 import s4
from urn.methods.s4s import s4s
from urn.methods.sa_solver import sa_solver, sa_solver_pece, sa_solver_published, sa_solver_published_lower_final
from urn.methods.score_sde import (
    euler_maruyama,
    predictor_corrector,
    probability_flow,
    probability_flow_heun,
    probability_flow_rk4,
    reverse_diffusion,
    sgmse,
)
from urn.methods.seeds import seeds_2, seeds_3
from urn.methods.sit import sit_sde
from urn.methods.unipc import unip, unipc, unipc_lower_final
from urn.methods.usf import usf

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
    sgmse,
    annealed_langevin,
    s4,
    dpm_solver_2,
    dpm_solver_3,
    dpm_solver_fast,
    amed,
    epd,
    s4s,
    *(dpm_solver_v3.named(f"dpm_solver_v3_{p}", order=p) for p in (1, 2, 3)),
    dpm_solver_v3_published,
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
    sa_solver,
    *(sa_solver.named(f"sa_solver_{p}", order=p) for p in (2, 3)),
    sa_solver_pece,
    sa_solver_published,
    sa_solver_published_lower_final,
    *(er_sde.named(f"er_sde_{p}", order=p) for p in (1, 2, 3)),
    er_sde_published.named("er_sde_3_published", order=3),
    seeds_2,
    seeds_3,
    restart,
    sit_sde,
    flow_grpo,
    cps,
    cps_vanishing,
    resshift,
    *(family.named(f"{family.name}_{p}", order=p) for family in (deis, deis_rho) for p in (2, 3, 4)),
    *(
        family.named(f"{family.name.removesuffix('_ramped')}_{p}_ramped", order=p)
        for family in (deis_ramped, deis_rho_ramped)
        for p in (3, 4)
    ),
    deis_log_rho_ramped,
    deis_log_rho_lower_final,
    ipndm,
    pndm,
    dpm_2,
    dpm_2_ancestral,
    heunpp_2,
    gradient_estimation,
    hb,
    *(ghvb.named(f"ghvb_{p}", order=p) for p in (2, 3, 4)),
    accelerated_ddim,
    accelerated_ddpm,
    *(runge_kutta.named(name, tableau=name) for name in EXPLICIT if name not in ("heun", "rk4", "kutta_3")),
    deis_rho_kutta_3,
    deis_rho_rk4,
    *(implicit_runge_kutta.named(name, tableau=name) for name in (*IMPLICIT, *DIAGONAL)),
    *(family.named(f"{family.name}_{p}", order=p) for family in (adams, adams_pc) for p in (2, 3, 4)),
    adams.named("abnorsett_2", order=2, variable="lambda"),
    res_multistep,
    res_multistep_ancestral,
    res_2s,
    res_2s.named("etdrk2", c2=1.0),
    rkmk_2e,
    res_3s,
    res_3s.named("res_3s_non_monotonic", c2=1.0, c3=0.5),
    res_3s.named("res_3s_sunstar", c2=0.5, c3=2 / 3),
    res_3s.named("etdrk3_b", c2=4 / 9, c3=2 / 3),
    res_3s_lie,
    res_3s_strehmel_weiner,
    etdrk3,
    etdrk3_a,
    etdrk4,
    krogstad_4,
    strehmel_weiner_4,
    friedli_4,
    minchev_4,
    munthe_kaas_4,
    cfree_4,
    hochbruck_ostermann_5s,
    luan_ostermann_5,
    luan_4,
    luan_5,
    luan_alhsmy_6_15s,
    luan_alhsmy_6,
    lawson_2a,
    lawson_2b,
    lawson_4,
    genlawson_4,
    modgenlawson_4,
    *(modgenlawson_4.named(f"modgenlawson_4{known}", known=known) for known in (2, 3, 4, 5)),
    pec_423,
    pecec_433,
    euler_cfg_pp,
    euler_cfg_pp.named("euler_ancestral_cfg_pp", eta=1.0),
    dpmpp_2m_cfg_pp,
    dpmpp_2s_ancestral_cfg_pp,
    gradient_estimation_cfg_pp,
    res_multistep_cfg_pp,
    res_multistep_ancestral_cfg_pp,
    unip,
    unipc,
    unipc_lower_final,
    linear,
    *(unipc_lower_final.named(f"unipc_3_{size}_lower_final", order=3, size=size) for size in ("bh1", "bh2")),
    *(family.named(f"{family.name}_{p}", order=p) for family in (unip, unipc) for p in (1, 2, 3, 4, 5)),
    *(family.named(f"{family.name}_{p}_bh1", order=p, size="bh1") for family in (unip, unipc) for p in (2, 3)),
    *(
        family.named(f"{family.name}_{p}_epsilon", order=p, prediction="epsilon")
        for family in (unip, unipc)
        for p in (2, 3)
    ),
    dc_unipc,
    dc_dpmpp,
    dc_adams_pc,
    iia_ddim,
    iia_heun,
    iia_dpmpp,
    usf,
    psld_euler,
    psld_heun,
    psld_symplectic_euler,
    psld_symplectic_euler_naive,
    psld_verlet,
    psld_verlet_naive,
    psld_conjugate,
    psld_exponential_2,
    psld_euler_maruyama,
    psld_oba,
    psld_oba_naive,
    sscs,
)

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
METHODS.update({alias: METHODS[name] for alias, name in ALIASES.items()})


def own_names(components: tuple[str, ...] = ("x",)) -> tuple[str, ...]:
    """The names, without aliases, of the methods for states of these components."""
    return tuple(name for name, found in METHODS.items() if name not in ALIASES and found.components == components)


def find_method(method: str | Method, components: tuple[str, ...] | None = None) -> Method:
    """The method of a name or alias, or a method itself; where `components` are given, one for states of these.

    Raises:
        ValueError: an unknown name, with the nearest ones; neither a name nor a method; or a method for other states.
    """
    if isinstance(method, str):
        if method not in METHODS:
            near = difflib.get_close_matches(method, METHODS, n=3, cutoff=0.4)
            hint = f"did you mean {', '.join(near)}? " if near else ""
            raise ValueError(f"method={method!r} is unknown; {hint}`urn methods` lists all {len(METHODS)}")
        method = METHODS[method]
    if not isinstance(method, Method):
        raise ValueError(f"method={method!r} must be a name in urn.METHODS or a Method")
    if components not in (None, method.components):
        states = (f"({', '.join(names)})" for names in (method.components, components or ()))
        raise ValueError(f"method {method.name!r} is for states {next(states)}, not {next(states)}")
    return method
