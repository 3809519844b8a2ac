"""Noise of undirected graphs: symmetric starts, noises and samples, a normal for each pair, whatever the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import urn
from urn.noise import FastNoise, GraphNoise, SeededNoise, sample_seeds
from urn.plan import Combine, Noise, Row
from urn.processes import VP, Blocks

NODES, FEATURES = 5, 2
GRAPHS = Blocks((VP.linear(), VP.linear(0.1, 2.0)), (NODES, FEATURES))
LIKE = torch.empty(3, NODES, NODES + FEATURES, dtype=torch.float64)


def parts(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :NODES], x[..., NODES:]


def net(x: Tensor, t: Tensor) -> Tensor:
    """Equivariant to the order of the nodes, its diagonal masked."""
    adjacency, features = parts(x)
    common = features @ features.mT + torch.tanh(adjacency @ adjacency)
    pairs = (1 - torch.eye(NODES)) * (torch.sin(adjacency) - 0.1 * (common + common.mT))
    return torch.cat([pairs, torch.tanh(features + adjacency @ features / NODES)], -1)


METHODS = (
    *("ddim", "ddpm", "euler_ancestral", "heun", "probability_flow_rk4", "euler_maruyama", "reverse_diffusion"),
    *("predictor_corrector", "sgmse", "s4", "dpmpp_2m", "dpmpp_3m_sde", "sa_solver", "er_sde_3", "unipc", "deis_rho_3"),
    *("pndm", "flow_grpo", "cps", "sit_sde", "resshift", "accelerated_ddpm"),
)
MODEL = urn.Model(net, GRAPHS, predicts="v")


def test_a_pair_has_one_number_of_the_source_and_features_are_its_own() -> None:
    plain = SeededNoise(sample_seeds(3, 3)).normal((0.5, 0.4), 0, LIKE)
    made = GraphNoise(SeededNoise(sample_seeds(3, 3))).normal((0.5, 0.4), 0, LIKE)
    adjacency, features = parts(made)
    upper = torch.triu(torch.ones(NODES, NODES), 1).bool()
    assert torch.equal(adjacency[:, upper], parts(plain)[0][:, upper])
    assert torch.equal(adjacency.mT, adjacency)
    assert not adjacency.diagonal(dim1=1, dim2=2).any()
    assert torch.equal(features, parts(plain)[1])


def test_the_covariance_is_one_for_each_pair_and_feature() -> None:
    count = 20_000
    made = GraphNoise(FastNoise(0)).normal((0.5, 0.4), 0, torch.empty(count, 3, 4, dtype=torch.float64)).flatten(1)
    expected = torch.eye(12, dtype=torch.float64)
    for i in range(3):
        expected[4 * i + i, 4 * i + i] = 0
        for j in range(i):
            expected[4 * i + j, 4 * j + i] = expected[4 * j + i, 4 * i + j] = 1
    assert (made.T @ made / count - expected).abs().max() < 5 * (2 / count) ** 0.5
    assert made.mean(0).abs().max() < 5 / count**0.5


@pytest.mark.parametrize("noise", ["seeded", "brownian", "fast"])
@pytest.mark.parametrize(
    "name",
    METHODS,
)
def test_samples_are_symmetric(name: str, noise: str) -> None:
    """States, noises and predictions of every kind of plan, and the diagonal stays zero exactly."""
    seen = []

    def watch(row: Row, registers: Any) -> None:
        for register in row.defines:
            adjacency, _ = parts(registers[register])
            assert (adjacency - adjacency.mT).abs().max() < 1e-12 * (1 + adjacency.abs().max())
            assert not adjacency.diagonal(dim1=1, dim2=2).any()
            if isinstance(row, (Combine, Noise)):
                seen.append(float(adjacency.abs().max()))

    source = GraphNoise(noise)
    plan = urn.compile_plan(name, GRAPHS, 4, "uniform")
    shape = (3, NODES, NODES + FEATURES)
    x = urn.sample(MODEL, plan, shape, seed=1, noise=source, watch=watch, dtype=torch.float64)
    assert min(seen) > 0.1
    if noise != "fast":
        alone = urn.sample(MODEL, plan, shape, seed=1, noise=source, batch_size=1, dtype=torch.float64)
        torch.testing.assert_close(
            alone, x, rtol=1e-12, atol=1e-12
        )  # the network's matrix products may round otherwise


@pytest.mark.parametrize("noise", ["seeded", "brownian"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_s_bits_do_not_depend_on_its_batch(noise: str, dtype: torch.dtype) -> None:
    model = urn.Model(lambda x, t: torch.zeros_like(x), GRAPHS, predicts="v")
    plan, shape = urn.compile_plan("s4", GRAPHS, 3, "uniform", snr=0.0), (5, NODES, NODES + FEATURES)
    whole = urn.sample(model, plan, shape, seed=2, noise=GraphNoise(noise), dtype=dtype)
    for size in (1, 2):
        assert torch.equal(
            urn.sample(model, plan, shape, seed=2, noise=GraphNoise(noise), dtype=dtype, batch_size=size), whole
        )
    one = urn.sample(model, plan, (1, *shape[1:]), seeds=[sample_seeds(2, 5)[3]], noise=GraphNoise(noise), dtype=dtype)
    assert torch.equal(one[0], whole[3])
    assert torch.equal(parts(whole)[0], parts(whole)[0].mT)


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4), (3, 2, 5, 5)])
def test_states_that_are_no_graphs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"graphs have \(B, N, N \+ F\)"):
        GraphNoise(SeededNoise(range(3))).normal((0.5, 0.4), 0, torch.empty(shape))
    model = urn.Model(lambda x, t: x, VP.linear(), predicts="v")
    with pytest.raises(ValueError, match=r"graphs have \(B, N, N \+ F\)"):
        urn.sample(model, "ddim", shape, steps=2, noise=GraphNoise())
    with pytest.raises(ValueError, match="elsewhere pass a source"):
        GraphNoise().normal((0.5, 0.4), 0, LIKE)


def test_it_has_no_density_of_independent_numbers() -> None:
    plan = urn.compile_plan("ddpm", urn.VP.linear(), 3)
    model = urn.Model(lambda x, t: x * 0, plan.process)
    with pytest.raises(ValueError, match="log-densities are those of independent noise; GraphNoise is not"):
        urn.rollout(plan, model, (2, 3, 4), noise=GraphNoise())
