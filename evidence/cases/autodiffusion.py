"""AutoDiffusion: times searched for DDIM at four calls, and then times with skipped blocks, on the network that Urn ships."""

from __future__ import annotations

from collections.abc import Mapping

import torch

import urn
from evidence.book import Finding, case
from evidence.digits_contest import held_out
from evidence.measure import mean_interval, normals, shown
from urn.metrics import frechet_distance
from urn.nets import digits, load_digits, skippable
from urn.plan import Plan
from urn.tuning import Tuned, tune
from urn.tuning.untuned import plan_within

TITLE = "AutoDiffusion: Training-Free Optimization of Time Steps and Architectures for Automated Diffusion Model Acceleration"
CALLS = 4
BLOCKS = ("down_block", "coarse_block_1", "attention_coarse", "coarse_block_2", "up_block", "attention_fine")
Variants = Mapping[str, tuple[urn.Model, float]]


@case(TITLE, f"Li, Li, Zheng, Wu, Xiao, Wang, Zheng, Pan, Chao & Ji 2023, {TITLE}, arXiv 2309.10438")
def run(full: bool) -> list[Finding]:
    """DDIM at four calls on the digits network, of class labels in turn. The figure is the Frechet distance on pixels: to
    half of the training digits in the search, to the held-out digits in the judgement, from other starts. The paper's is FID,
    by an Inception network."""
    starts, most = (400, 60) if full else (200, 12)
    batches, count = (8, 500) if full else (4, 200)
    variants = skippable(load_digits(), BLOCKS, 1)
    times = searched(starts, most, None)
    blocks = searched(starts, most, variants)
    plans = {
        "times": times.plan,
        "blocks": blocks.plan,
        "uniform": plan_within(load_digits().process, "ddim", CALLS, "uniform"),
        "log-SNR": plan_within(load_digits().process, "ddim", CALLS, "lambda"),
    }
    found = {name: [distance(plan, variants, count, seed) for seed in range(batches)] for name, plan in plans.items()}
    return [
        _lower("Searched times are better than uniform ones: DDIM", found, "times", "uniform", count),
        _lower("Searched times are better than times even in log-SNR: DDIM", found, "times", "log-SNR", count),
        _lower(
            "Times and skipped blocks, one call more at the same cost, are better than times alone: DDIM",
            found,
            "blocks",
            "times",
            count,
        ),
        _gap(times, starts),
    ]


def searched(starts: int, most: int, variants: Variants | None) -> Tuned:
    """The search, on few samples; the rest of the training digits are compared with its own held-out starts."""
    label = torch.arange(2 * starts) % 10
    return tune(
        load_digits(),
        CALLS,
        tuner="autodiffusion",
        objective="frechet",
        data=digits("train")[0],
        starts=starts,
        held_out=starts,
        conditioning={"label": label},
        method="ddim",
        variants=variants,
        most=most,
    )


def distance(plan: Plan, variants: Variants, count: int, seed: int) -> float:
    """The Frechet distance of `count` samples from starts of their own to the held-out digits."""
    model = load_digits()
    models = {"main": model, **{name: one for name, (one, _) in variants.items()}}
    x = normals(1000 + seed, count, *(model.shape or ())).float() * float(dict(plan.inputs)["x"].std)
    with torch.no_grad():
        ends = urn.execute(plan, models, {"x": x}, conditioning={"label": torch.arange(count) % 10})["x"]
    return frechet_distance(ends.flatten(1).double(), held_out())


def _lower(claim: str, found: dict[str, list[float]], ours: str, theirs: str, count: int) -> Finding:
    gap = mean_interval([a - b for a, b in zip(found[ours], found[theirs], strict=True)])
    means = [sum(found[name]) / len(found[name]) for name in (ours, theirs)]
    return Finding(
        claim,
        f"the Frechet distance to held-out digits lower at {CALLS} calls, by the 95 % interval over {len(found[ours])} batches "
        f"of {count} from the same starts",
        f"{means[0]:.3g} against {means[1]:.3g}, difference {shown(gap)}",
        gap.high < 0,
    )


def _gap(times: Tuned, starts: int) -> Finding:
    train, unseen = times.record.tuned.train.estimate, times.record.tuned.held_out.estimate
    return Finding(
        "Few samples are enough to choose by",
        f"the figure of the plan found on {starts} samples at most a quarter larger on as many that it has not seen",
        f"{train:.3g} in the search, {unseen:.3g} on unseen starts and other data ({unseen / train:.2f} times)",
        unseen <= 1.25 * train,
    )
