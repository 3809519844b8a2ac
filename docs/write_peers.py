"""`python docs/write_peers.py [--only TEXT]`: docs/peers.md, the kit on every scheduler of diffusers and sampler of k-diffusion.

Every line of the page's tables and findings is made from what the kit measures here; with `--only` the reports of the
configurations whose command holds the text are printed instead, and nothing is written.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from peers_configurations import CONFIGURATIONS, DPM, SAMPLERS, UNIPC
from tqdm import tqdm

import urn
from urn.cli.specs import read_options
from urn.conformance import Check, Report
from urn.conformance.peers import LIBRARIES
from urn.conformance.peers.facts import NOT_RUN
from urn.conformance.peers.samplers import installed_version, sampler_names
from urn.conformance.peers.schedulers import scheduler_names

PAGE = Path(__file__).with_name("peers.md")
MULTISTEP = ("DPMSolverMultistep", "UniPC", "DEIS", "IPNDM", "LMS", "SASolver", "PNDM", "sample_lms", "3m", "2m")


@dataclass(frozen=True)
class Row:
    """A configuration and what the kit found; `report` is None, and `refused` says why, where it cannot be made."""

    package: str
    name: str
    options: str
    report: Report | None
    documented: int | None = None
    stochastic: bool = False
    refused: str = ""

    @property
    def command(self) -> str:
        return command(self.package, self.name, self.options)

    @property
    def short(self) -> str:
        """For sentences: the name and the options, as code."""
        return f"`{' '.join([self.name, *self.options.split()])}`"

    def number(self, check: str, key: str) -> float:
        """A figure of a check, nan where it was not measured."""
        return math.nan if self.report is None else _numbers(self.report, check).get(key, math.nan)

    def failed(self, check: str) -> str:
        """The detail of a check that failed, or nothing."""
        found = [c for c in self.report.checks if c.name == check and c.verdict == "FAIL"] if self.report else []
        return found[0].detail if found else ""

    @property
    def not_run(self) -> list[Check]:
        """The checks that raised."""
        return [] if self.report is None else [c for c in self.report.checks if c.verdict == "could not run"]

    @property
    def fitted(self) -> float:
        return self.number("law" if self.stochastic else "order", "order")

    @property
    def multistep(self) -> bool:
        return any(part in self.name for part in MULTISTEP)


def _numbers(report: Report, check: str) -> dict[str, float]:
    return next((c.numbers for c in report.checks if c.name == check), {})


def command(library: str, name: str, options: str) -> str:
    """What repeats a line of the tables."""
    full = name if library == "k_diffusion" else f"{name}Scheduler"
    return " ".join([f"urn check {library}:{full}", *(f"--option {one}" for one in options.split())])


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="print the reports of the configurations whose command holds this text")
    only = parser.parse_args().only
    known = {name.removesuffix("Scheduler") for name in scheduler_names()} - {*NOT_RUN}
    listed = {"diffusers": {**CONFIGURATIONS, **dict.fromkeys(sorted(known - {*CONFIGURATIONS}), ("",))}}
    listed["k_diffusion"] = {**SAMPLERS, **{name: ("",) for name in sampler_names() if name not in SAMPLERS}}
    todo = [(library, *one) for library, table in listed.items() for one in expanded(table)]
    todo = [one for one in todo if only is None or only in command(*one)]
    if not todo:
        raise SystemExit(f"--only {only!r}: no configuration's command holds this text")
    rows = []
    for one in (bar := tqdm(todo, unit="sampler")):
        bar.set_postfix_str(" ".join(one[1:]))
        rows.append(measured(*one))
        if only is not None:
            print(f"\n{rows[-1].command}\n{rows[-1].report or rows[-1].refused}")
    if only is None:
        PAGE.write_text(page(rows))
        print(f"written: {PAGE}")


def expanded(table: dict[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Every name with each of its options."""
    return ((name, options) for name, several in table.items() for options in several)


def measured(library: str, name: str, options: str) -> Row:
    """The kit on one configuration."""
    try:
        subject = LIBRARIES[library](name, **read_options(options.split()))
    except ValueError as error:
        return Row(library, name, options, None, refused=str(error))
    return Row(library, name, options, urn.check(subject), subject.order, subject.stochastic)


TITLE = """# Other libraries' samplers under the kit

What `urn.check` finds in every scheduler of diffusers {diffusers} and every sampler of k-diffusion {k_diffusion} (torch {torch}).
Written by `make peers`; no figure and no finding on this page is typed in by hand. A finding's command repeats it, and so does
`urn check LIBRARY:NAME --option OPTION=VALUE` with the name and the options of a table's line.

## Checking somebody else's sampler

```
urn check diffusers:DPMSolverMultistepScheduler --option use_karras_sigmas=true
urn check k_diffusion:sample_dpmpp_2m
python docs/write_peers.py --only UniPC
```

In Python, with a scheduler, or with any callable of yours that takes states from `times[0]` to `times[-1]`:

```python
import itertools

import urn
from urn.conformance.peers import diffusers

report = urn.check(diffusers("DPMSolverMultistepScheduler", solver_order=3))
print(report)  # documented order 3, fitted {fitted:.1f}
print(report["order"].verdict, report["batch"].verdict)


def mine(model, x, times, seeds):
    for cur, next in itertools.pairwise(times):
        alpha, sigma = model.process.alpha(cur), model.process.sigma(cur)
        v = model.net(x, cur.expand(len(x)))  # the model predicts v = alpha epsilon - sigma x0
        x0, epsilon = alpha * x - sigma * v, sigma * x + alpha * v
        x = model.process.alpha(next) * x0 + model.process.sigma(next) * epsilon
    return x


print(urn.check(mine, order=1, exact_for=("point",)))
```

A callable that draws noise takes it from its seeds, one a sample, and says `stochastic=True`. k-diffusion is not on the list of
extras: `{install}`. Its package need not be importable as a whole; what it
imports for pictures is not needed.

## How they are driven

- On a mixture of two skewed Gaussians with its exact network, as their pipelines or scripts drive them: `set_timesteps`,
  `scale_model_input`, `step`; one generator a sample. Each is shown the prediction that it asks for, in its own units.
- **On the kit's grid**, lambda from -1 to 2 in unequal steps, by their own settings: diffusers' schedulers take it as a table
  (`trained_betas`) with one entry a node, so that no time is rounded; flow schedulers and k-diffusion take it as `sigmas`. A
  setting that makes a spacing (karras, lu, beta, exponential) makes it on a fine table between the same ends, EDM's
  schedulers between `sigma_max` and `sigma_min`. What would step from the last node to sigma = 0 is left out, as
  `denoising_end` does; schedulers with `final_sigmas_type` end at `sigma_min`, so that their own last steps are counted.
- **order**: the slope of the error at 48, 96, 192 and 384 steps; passes at the documented order less 0.25. For stochastic
  ones (marked ~) of the law on Gaussian data, whose mean and covariance are exact: one run in which each sample has one unit
  vector among its noises gives the sampler's whole affine map. No documentation claims an order of the law; 1 is asked.
- **Arithmetic**: diffusers' files cast to float32, which would hide every order above two. They are run with `float32` read as
  `float64`, and nothing else changed, so that the rule is judged and not its rounding. Where times are still rounded to
  entries of a table, errors below 3e-6 are left out of the fit. `--option double=false` leaves the file as installed, and
  errors below 1e-5 out of the fit.
- **one point**: the error after 5 steps on data that are one point, where most rules are exact; for stochastic ones by how
  much the noise's second moment is off 1. Nothing is promised.
- **batch**: a sample alone, and inside a batch, from the same seed.
- **own grid**: the scheduler as installed, in its own float32, with its own table (1,000 linear betas by default) and spacing
  from pure noise to its end: the errors at 20 and 80 steps against the exact trajectory from its own start.
- `clip_sample` is False unless a line says otherwise: by default some clip to [-1, 1], where pixels are and these data are not.

"""


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    import torch

    from urn.conformance.peers.samplers import INSTALL

    third = next(row for row in rows if row.name == DPM and row.options == "solver_order=3")
    found = {"diffusers": version("diffusers"), "k_diffusion": installed_version(), "torch": torch.__version__}
    title = TITLE.format(**found, install=INSTALL, fitted=third.fitted)
    tables = [
        f"## diffusers {found['diffusers']}\n\n" + table([row for row in rows if row.package == "diffusers"]),
        f"## k-diffusion {found['k_diffusion']}\n\n" + table([row for row in rows if row.package == "k_diffusion"]),
        "## Not run\n\n| scheduler | why |\n|---|---|\n"
        + "".join(f"| `{name}Scheduler` | {why} |\n" for name, why in sorted(NOT_RUN.items())),
    ]
    return title + findings(rows) + "\n".join(tables)


def findings(rows: Sequence[Row]) -> str:
    """Sentences made from the rows."""
    run = [row for row in rows if row.report is not None]
    passed = [row for row in run if row.report is not None and row.report.passed]
    exact = [row for row in run if not row.stochastic and row.number("point mass", "error") < 1e-9]
    apart = [row for row in run if _numbers_of(row, "batch") and not row.failed("batch")]
    deterministic = [
        row for row in run if not row.stochastic and row.documented is not None and row.fitted == row.fitted
    ]
    infinite = [row for row in run if row.failed("own grid") or "not finite" in row.failed("ends")]
    raised = [(row, found) for row in run if (found := row.not_run)]
    low = [row for row in deterministic if row.failed("order") and math.isfinite(row.fitted)]
    several = [row for row in low if row.multistep]
    others = [row for row in low if not row.multistep]
    laws = [row for row in run if row.failed("law") and math.isfinite(row.number("law", "error"))]
    together = [row for row in run if row.failed("batch") and math.isfinite(row.number("batch", "gap"))]
    rounded = [row for row in run if not row.stochastic and row.number("point mass", "error") > 1e-9]
    lines = ["## Findings\n"]
    lines.append(
        f"{len(run)} configurations run; {len(passed)} pass everything. {len(apart)} give a sample that does not depend on its "
        f"batch; {len(exact)} of the {len([r for r in run if not r.stochastic])} deterministic ones are exact on one point; "
        f"{len(deterministic) - len(low)} of {len(deterministic)} fit their documented order.\n"
    )
    lines.append("### Not finite\n")
    lines += [f"- {row.short}: {row.failed('own grid') or row.failed('ends')}. `{row.command}`" for row in infinite]
    lines += _none(infinite)
    if several:
        fits = [row.fitted for row in several]
        lines.append("\n### Multistep, below the documented order\n")
        lines.append(
            f"{len(several)} configurations, fitted from {min(fits):.1f} to {max(fits):.1f}. A rule that starts with one Euler "
            "step keeps that step's error, which is of second order, whatever its own order; one that ends with lower orders "
            f"keeps theirs{_unipc(run)}. In few steps a higher order can still pay.\n"
        )
        lines += [
            f"- {row.short}: documented {row.documented}, fitted {row.fitted:.2f}. `{row.command}`" for row in several
        ]
    lines.append("\n### Others below the documented order\n")
    lines.append("A one-step rule that ends with steps of lower orders keeps their errors.\n")
    lines += [f"- {row.short}: documented {row.documented}, fitted {row.fitted:.2f}. `{row.command}`" for row in others]
    lines += _none(others)
    lines.append("\n### A law that does not converge at order one\n")
    lines += [f"- {row.short}: {row.failed('law')}. `{row.command}`" for row in laws]
    lines += _none(laws)
    lines.append("\n### Higher `solver_order`, lower order of the law\n")
    worse = list(_worse(run))
    lines += [
        f"- {row.short}: {row.fitted:.2f}, and {less.short} {less.fitted:.2f}. `{row.command}`" for row, less in worse
    ]
    lines += _none(worse)
    lines.append("\n### Deterministic, but not exact on one point\n")
    lines.append("The network is shown a time that is rounded, and so not that of its state; after 5 steps:\n")
    lines += [f"- {row.short}: off by {row.number('point mass', 'error'):.0e}. `{row.command}`" for row in rounded]
    lines += _none(rounded)
    lines.append("\n### Samples that depend on their batch\n")
    lines += [f"- {row.short}: {row.failed('batch')}. `{row.command}`" for row in together]
    lines += _none(together)
    lines.append("\n### Raised\n")
    lines += [
        f"- {row.short}, in {', '.join(c.name for c in found)}: {found[0].detail}. `{row.command}`"
        for row, found in raised
    ]
    lines += [f"- {row.short}: {row.refused}. `{row.command}`" for row in rows if row.report is None]
    lines += _none([*raised, *(row for row in rows if row.report is None)])
    return "\n".join(lines) + "\n\n"


def _numbers_of(row: Row, check: str) -> dict[str, float]:
    return {} if row.report is None else _numbers(row.report, check)


def _unipc(rows: Sequence[Row]) -> str:
    """What UniPC fits with and without lower orders at its end."""
    fits = {row.options: row.fitted for row in rows if row.name == UNIPC}
    with_, without = fits["solver_order=2"], fits["solver_order=2 lower_order_final=false"]
    return f" (UniPC of order 2 fits {with_:.2f}, with `lower_order_final=false` {without:.2f})"


def _worse(rows: Sequence[Row]) -> Iterable[tuple[Row, Row]]:
    """Stochastic ones whose law fits less than that of the same with a `solver_order` less by one."""
    by_options = {(row.name, row.options): row for row in rows if row.stochastic}
    for (name, options), row in by_options.items():
        for order in (2, 3):
            less = by_options.get((name, options.replace(f"solver_order={order}", f"solver_order={order - 1}")))
            if less is not None and less is not row and row.fitted < less.fitted - 0.25:
                yield row, less


def _none(found: object) -> list[str]:
    return [] if found else ["None."]


def table(rows: Iterable[Row]) -> str:
    """One line a configuration."""
    head = (
        "| configuration | documented | order | one point | ends | batch | calls a step | own grid, 20; 80 | verdict |"
    )
    return "\n".join([head, "|" + "---|" * 9, *map(line, rows)]) + "\n"


def line(row: Row) -> str:
    """A line of the tables."""
    if row.report is None:
        return f"| {row.short} | | | | | | | | refused |"
    verdicts = {check.name: check.verdict for check in row.report.checks}
    fitted = row.fitted
    order = "-" if math.isnan(fitted) else f"{fitted:.2f}"
    ends = {"pass": "finite", "FAIL": "fails", "info": "refused"}.get(verdicts.get("ends", ""), "-")
    own = [row.number("own grid", f"error {n}") for n in (20, 80)]
    grid = {"FAIL": "not finite", "pass": "finite"}.get(verdicts.get("own grid", ""), verdicts.get("own grid", "-"))
    calls, gap = row.number("cost", "calls"), row.number("batch", "gap")
    cells = [
        row.short,
        "-" if row.documented is None or row.stochastic else str(row.documented),
        f"~{order}" if row.stochastic else order,
        "-" if math.isnan(e := row.number("point mass", "error")) else "exact" if e < 1e-9 else f"{e:.0e}",
        ends,
        {"pass": "apart", "FAIL": f"differs by {gap:.0e}"}.get(verdicts.get("batch", ""), "-") if gap == gap else "-",
        "-" if math.isnan(calls) else f"{calls:.2f}".removesuffix(".00"),
        grid if math.isnan(own[0]) else f"{own[0]:.1e}; {own[1]:.1e}",
        "passes" if row.report.passed else "fails",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
