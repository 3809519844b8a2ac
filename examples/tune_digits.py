"""Tune a plan for 6 model calls on the digits mixture, see what it gained, keep it, and draw by it.

python examples/tune_digits.py [--out out/tune_digits] [--starts 256] [--tuner auto]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import urn
from urn.exact import digits_mixture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/tune_digits"))
    parser.add_argument("--starts", type=int, default=256)
    parser.add_argument("--tuner", default="auto")
    given = parser.parse_args()

    model = digits_mixture().model(urn.VP.linear())
    found = urn.tune(
        model,
        steps=6,
        tuner=given.tuner,
        starts=given.starts,
        held_out=256,
        storage=given.out / "tune.db",
        progress=True,
    )
    print(found.record)
    path = found.save(given.out / "plan.json")
    x = urn.sample(model, urn.tuning.load(path).plan, shape=(64, 1, 8, 8), seed=7)
    print(f"{path}: {found.plan.nfe} calls a sample; drew {tuple(x.shape)}")


if __name__ == "__main__":
    main()
