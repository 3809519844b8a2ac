"""One start for every condition, and starts on the way by optimal transport."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import urn
from urn.exact import Conditional, Gaussian
from urn.tuning import best_start, nearest, transport_starts
from urn.tuning.starts import squared_distance
from urn.tuning.transport import Transport

PROCESS = urn.VP.linear()


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_gaussian() -> tuple[urn.Model, Tensor, Tensor, Conditional]:
    """p(x0 | y) = N(A y, C): pairs drawn from it, each with three mirror images, so that their means are those of the law."""
    given = Conditional(Gaussian([0.0, 0.0], [[0.5, 0.2], [0.2, 0.3]]), [[1.2, -0.4], [0.3, 0.8]])
    y, unit = normals(1, 50, 2), normals(2, 50, 2)
    y, unit = torch.stack([y, y, -y, -y], 1).flatten(0, 1), torch.stack([unit, -unit, unit, -unit], 1).flatten(0, 1)
    noise = unit @ torch.linalg.cholesky(torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)).T
    model = urn.Model(lambda x, t, y: given.prediction(x, y, PROCESS, t, "v"), PROCESS, predicts="v", shape=(2,))
    return model, y, given.mean(y) + noise, given


def test_for_a_linear_gaussian_the_score_is_a_constant_and_a_square_so_that_zero_is_best() -> None:
    model, y, z, _ = linear_gaussian()
    plan = urn.compile_plan("dpmpp_2m", PROCESS, 12)
    tried = torch.cat([torch.zeros(1, 2, dtype=torch.float64), normals(3, 40, 2)])
    found = best_start(model, plan, z, conditioning={"y": y}, candidates=tried)

    def start(x: Tensor) -> Tensor:
        return urn.execute(plan, model, {"x": x.expand(200, 2).clone()}, conditioning={"y": y})["x"]

    zero = start(torch.zeros(2, dtype=torch.float64))
    columns = torch.stack([(start(e) - zero).mean(0) for e in torch.eye(2, dtype=torch.float64)], dim=1)  # A
    assert float((zero - z).mean(0).abs().max()) < 1e-12
    predicted = [squared_distance(zero, z).mean() + (columns @ x).square().sum() / 2 for x in tried]
    assert torch.allclose(found.distances, torch.stack(predicted), rtol=1e-10)
    assert found.chosen == 0
    assert found.distances[1:].min() > found.distances[0]


def test_the_best_of_random_starts_wins_on_new_conditions_and_does_not_vary() -> None:
    model, y, z, _ = linear_gaussian()
    plan = urn.compile_plan("ddim", PROCESS, 8)
    found = best_start(model, plan, z[:60], conditioning={"y": y[:60]}, candidates=64, seed=5)
    again = best_start(model, plan, z[:60], conditioning={"y": y[:60]}, candidates=64, seed=5, batch_size=7)
    assert again.chosen == found.chosen
    assert torch.allclose(again.distances, found.distances, rtol=1e-12)
    assert found.distances.argmin() == found.chosen
    ends = urn.sample(model, plan, start=found.starts(140), conditioning={"y": y[60:]})
    random = urn.sample(model, plan, start=normals(9, 140, 2), conditioning={"y": y[60:]})
    assert float((ends - z[60:]).square().mean()) < 0.75 * float((random - z[60:]).square().mean())
    same = urn.sample(model, plan, start=found.starts(5), conditioning={"y": y[:1].expand(5, 2)})
    assert float(same.var(0).max()) < 1e-24


def test_what_cannot_be_a_calibration_set_is_refused() -> None:
    model, y, z, _ = linear_gaussian()
    plan = urn.compile_plan("ddim", PROCESS, 4)
    for options, said in (
        ({"references": z[0]}, "references="),
        ({"references": z[:0]}, "references="),
        ({"candidates": 0}, "candidates="),
        ({"candidates": normals(1, 3, 3)}, "candidates="),
        ({"distance": lambda a, b: (a - b).square().mean()}, "distance returned"),
        ({"distance": lambda a, b: (a - b)[:, 0] * math.nan}, "candidates: none of 4"),
        ({"batch_size": 0}, "batch_size="),
    ):
        given = {"references": z, "candidates": 4, **options}
        with pytest.raises(ValueError, match=said):
            best_start(model, plan, given.pop("references"), conditioning={"y": y}, **given)
    with pytest.raises(ValueError, match="draws noise"):
        best_start(model, urn.compile_plan("ddpm", PROCESS, 4), z, conditioning={"y": y})


def test_two_cells_have_the_heights_that_are_known() -> None:
    """<z, y_1 - y_2> = h_2 - h_1 halves N(0, I) where h_1 = h_2, whatever the states; with three on a line the outer two have the
    quantiles of a third."""
    bank = torch.tensor([[2.0, 1.0], [-0.5, 0.7]], dtype=torch.float64)
    found = transport_starts(bank)
    assert float((found.heights[0] - found.heights[1]).abs()) < 0.05
    line = torch.tensor([[-1.0], [0.5], [3.0]], dtype=torch.float64)
    quantile = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 / 3, dtype=torch.float64)))  # of 2/3
    heights = transport_starts(line, iterations=400, draws=8192).heights
    # borders at -q and q: -z + h_1 = z/2 + h_2 there, and so on
    assert float(heights[0] - heights[1]) == pytest.approx(1.5 * -quantile, abs=0.03)
    assert float(heights[2] - heights[1]) == pytest.approx(-2.5 * quantile, abs=0.05)


def test_planes_over_draws_by_brute_force() -> None:
    """Places of the two highest of <z, y_i> + h_i, and shares of draws; then starts are those of consecutive seeds' draws."""
    bank, heights = normals(8, 5, 3), torch.tensor([0.3, -0.2, 0.5, 0.0, -0.6], dtype=torch.float64)
    found = Transport(bank, heights)
    for seed in (3, 3 + 7919):
        z = normals(seed, 40, 3)
        planes = [[float(a @ y) + float(h) for y, h in zip(bank, heights, strict=True)] for a in z]
        order = [sorted(range(5), key=lambda i, row=row: -row[i]) for row in planes]  # type: ignore[misc]
        assert found.two_highest(z).tolist() == [one[:2] for one in order]
        highest = [one[0] for one in order]
        assert found.masses(40, seed).tolist() == [highest.count(i) / 40 for i in range(5)]
        assert found.starts(40, seed)[1].tolist() == highest
    pairs = [found.two_highest(normals(3 + 7919 * k, 40, 3)) for k in range(4)]
    kept = torch.cat([two[found.angles(two) <= 1.2][:, 0] for two in pairs])
    assert len(kept) > 40 > int((found.angles(pairs[0]) <= 1.2).sum())
    assert found.starts(40, 3, angle=1.2)[1].tolist() == kept[:40].tolist()


def test_angles_of_states_that_are_parallel_or_zero_are_numbers() -> None:
    along = normals(2, 200, 3)
    bank = torch.cat([along, 3.7 * along, -0.3 * along, torch.zeros(1, 3, dtype=torch.float64)])
    found = Transport(bank, torch.zeros(601, dtype=torch.float64))
    place = torch.arange(200)
    for other, expected in ((200 + place, 0.0), (400 + place, math.pi), (600 + 0 * place, math.pi / 2)):
        angles = found.angles(torch.stack([place, other], 1))
        torch.testing.assert_close(angles, torch.full_like(angles, expected), rtol=0, atol=1e-7)


def test_one_iteration_of_adam_by_hand() -> None:
    """Its first step is the rate in each height, against the sign of (mass - 1/n); then the mean is taken off."""
    bank = torch.tensor([[2.0, 1.0], [-0.5, 0.7], [0.0, -3.0]], dtype=torch.float64)
    masses = Transport(bank, torch.zeros(3, dtype=torch.float64)).masses(500, 4)
    signs = torch.sign(masses - 1 / 3)
    assert signs.abs().min() == 1
    spread = sum(float((bank[i] - bank[i - 1]).norm()) for i in range(3)) / 3
    for rate in (None, 0.02):
        step = 0.1 * spread if rate is None else rate
        found = transport_starts(bank, iterations=1, draws=500, rate=rate, seed=4).heights
        torch.testing.assert_close(found, -step * (signs - signs.mean()), rtol=1e-5, atol=1e-8)
    two = transport_starts(bank, iterations=2, draws=500, rate=0.02, seed=4).heights
    after = Transport(bank, -0.02 * (signs - signs.mean())).masses(500, 5) - 1 / 3
    g = masses - 1 / 3
    m, v = (0.9 * 0.1 * g + 0.1 * after) / 0.19, (0.999 * 0.001 * g**2 + 0.001 * after**2) / 0.001999
    moved = -0.02 * (signs - signs.mean()) - 0.02 * 0.1 * m / v.sqrt()  # the rate falls to a hundredth in two steps
    torch.testing.assert_close(two, moved - moved.mean(), rtol=1e-4, atol=1e-7)


def test_cells_have_equal_masses_and_the_map_is_the_optimal_one() -> None:
    """Against POT on draws: the cost of the map is that of the discrete plan."""
    ot = pytest.importorskip("ot")
    bank = 0.8 * normals(4, 16, 3) + 0.3
    found = transport_starts(bank)
    masses = found.masses(200_000, seed=99)
    assert float((masses * 16 - 1).abs().max()) < 0.04
    assert float((Transport(bank, 0 * found.heights).masses(200_000, seed=99) * 16 - 1).abs().max()) > 0.5
    z = normals(5, 1600, 3)
    cost = torch.cdist(z, bank).square() / 2
    exact = float((ot.emd([], [], cost.numpy()) * cost.numpy()).sum())
    mapped = bank[found.two_highest(z)[:, 0]]
    ours = float((z - mapped).square().sum(1).mean()) / 2
    # the map is optimal for the masses that it gives to these draws, the plan for equal ones
    assert ours == pytest.approx(exact, rel=0.02)


def test_the_angle_drops_what_lies_between_states_that_point_apart() -> None:
    bank = torch.tensor([[2.0, 0.0], [1.9, 0.4], [-2.0, 0.1]], dtype=torch.float64)
    found = transport_starts(bank)
    states, places = found.starts(300, seed=1)
    assert torch.equal(states, bank[places])
    angles = found.angles(found.two_highest(normals(6, 300, 2)))
    assert float(angles.max()) > 2.5
    expected = math.acos((2 * 1.9) / (2 * math.hypot(1.9, 0.4)))
    assert float(found.angles(torch.tensor([[0, 1]]))) == pytest.approx(expected)
    _, near = found.starts(300, seed=1, angle=1.0)
    assert len(near) == 300
    assert set(near.tolist()) == {0, 1}  # the third one's runner-up always points apart
    with pytest.raises(ValueError, match="drops"):
        found.starts(10, seed=1, angle=0.01)
    for angle in (-1.0, 4.0, math.nan):
        with pytest.raises(ValueError, match="angle="):
            found.starts(10, seed=1, angle=angle)


def test_banks_that_are_none_are_refused() -> None:
    for bank, said in (
        (torch.zeros(1, 2), "bank="),
        (torch.zeros(3, 2), "the same"),
        (torch.full((3, 2), math.nan), "bank="),
        ([[1.0], [2.0]], "bank="),
    ):
        with pytest.raises(ValueError, match=said):
            transport_starts(bank)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws="):
        transport_starts(normals(1, 3, 2), draws=0)
    assert float(nearest(torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 0, 0, 0]]))) == 1.0
