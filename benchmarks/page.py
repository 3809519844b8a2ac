"""docs/benchmarks.md from the results: a section a part, each replaced when its part is measured again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import tables, tuned_tables
from benchmarks.tables import Table

HEAD = """# Benchmarks

Urn beside the installed diffusers, in one run. Written by `python -m benchmarks` (`make bench`); nothing on this page is
typed in by hand. Every ratio is diffusers/Urn: above 1 Urn is nearer, or faster.

"""

ACCURACY = """## Accuracy at equal model calls

How far samples end from the exact ends of their trajectories, root mean square over starts and pixels. The target is the
mixture of 20 Gaussians in 64 dimensions fitted to scikit-learn's digits, under diffusers' default table (1,000 betas,
linear from 0.0001 to 0.02); the network is its exact epsilon, computed in float64 and answered in float32. All start from
the same unit normals at t = 999, or where the scheduler starts; an error is the distance to the clean end, sigma = 0, of the
exact trajectory of the same normals from t = 999.

- A budget is a number of calls that the loop really makes, counted; a multi-stage method takes as many steps as fit.
- {diffusers:,} configurations of diffusers and {urn:,} of Urn. At each budget the best of a side is **chosen on one half of
  the starts and reported on the other**. All run from {few:,} starts, the best of them also from {many:,}, where those {few:,}
  lie in the half that chooses. A few starts near a border between two digits decide an RMS: look at the intervals (95 %,
  over starts) and the medians.
- *diffusers, by its settings*: what a user of a network for this table sets by name. *diffusers, any way*: also with the
  network shown the time of its state's noise level where the scheduler rounds it (\\*), on times handed in by the caller
  (*given*: three of Urn's grids, Align Your Steps), and with the network wrapped for a flow or for EDM.
- *Urn*: every deterministic method, on every grid. *Urn, whole times*: on grids of whole numbers alone, for networks
  that take no others.
- No method of either side calls the network below t = 0 (the flow grids of both call it above t = 999). This leaves an
  error at any number of steps: a jump from t = 0 to clean by the x0 prediction ends {jump:.5f} from the exact end.
- Checks: the exact ends, by SciPy's DOP853, are {fine:.1e} from a plan of 2,001 calls; Urn's DDIM is {same:.1e} from
  diffusers' on the same times.

"""

OVERHEAD = """## Overhead beside the network

The network returns a stored tensor, so the time is the sampler's own. Both sides take 20 steps on the trailing times in
float32, on one thread, in turn; a run is the loop alone. Times are the process's processor time, which does not count waits
for a core: median [quartiles] and least, in microseconds a step. *Ratio* is of medians, *of least* of the least times.
*Kernels* are operations a step over tensors of the state's size, those over a few numbers apart. *Passes* are reads and writes
of a state's memory that the plan's rows ask for one by one, a step; *of copy bandwidth* is how fast that goes, where a copy of
the state is two passes. Sums between two calls are made together, in fewer passes than that. *States held* is how many states'
memory a run has, in brackets how many it needs at once: history, what was returned, and the state. Small states have a second
block to be mixed into, and so do large ones where next to nothing would only be copied; the others are mixed in their place, a
tile at a time. Where Urn has no namesake, the nearest scheduler stands beside it. diffusers makes its coefficients in the
loop; Urn has made them before, when the plan was compiled, once for all runs: that is the table *before the loop*, where
*again* is a plan that was asked for before. Urn's seeded noise is the same bits on every machine and device and in every
batch, and is slower for it.

"""


PRECISION = """## Half precision

How far a run in half precision ends from the same run in float64, over starts: the digits mixture's exact network, answered in
half precision, on the trailing times. The methods are those that end in the same numbers as the scheduler in float64, so that
only arithmetic is compared. A few starts near a border between two digits decide an RMS.

"""


TUNED = """## Tuned plans

The same mixture, table and ends as under accuracy, from {starts:,} starts that no search has seen. *diffusers*: of the
schedulers that came first in the accuracy benchmark at some budget, on all their grids, the best from these very starts, which
flatters it. *Urn, untuned* is the best of methods times grids by the training starts; *tuned* is `urn.tune` as it is, by 4,096
starts of its own (512 at 20 calls), in about 100 seconds; *frugal* is the same with at most 50,000 evaluations, the untuned
plans and the reference among them. A
tangent that passes through the network is counted as an evaluation. *Wanted* is the ratio that was aimed at. One start in some
hundred lies near a border between two digits and ends in the other one after a small error: these few decide an RMS.

On the network of digits that Urn ships, samples of all classes in turn are compared with the digits held out from its
training, which tuned nothing: plans are tuned to the ends of the network's own fine trajectories.

"""


TUNERS = """## Every tuner at equal seconds

Each tuner of Urn has {mixture[0]:g} seconds on the mixture and {network[0]:g} on the network, untuned plans and reference among
them, and {mixture[1]:,} or {network[1]:,} training starts, the same for all; RMS is over {starts:,} starts that none has seen.
The mixture is judged by exact ends, the network that Urn ships by the ends of its own fine trajectories. *(untuned)*: nothing
better was found, and the best untuned plan was returned. Some end before their time, some are made for data or networks of
other kinds, and more seconds change the order.

"""


def write_page(path: Path, result: dict[str, Any]) -> None:
    """Put a result's section in the page, keeping the others as they stand."""
    kinds: dict[str, Callable[[dict[str, Any]], str]] = {
        "accuracy": accuracy_section,
        "overhead": overhead_section,
        "precision": precision_section,
        "tuned": tuned_section,
        "tuners": tuners_section,
    }
    before = path.read_text() if path.exists() else ""
    sections = {kind: _between(before, kind) for kind in kinds}
    sections[result["kind"]] = kinds[result["kind"]](result)
    parts = [f"{_mark(kind)}\n{text}{_mark(kind, end=True)}\n" for kind, text in sections.items() if text]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "\n".join(parts))


def accuracy_section(result: dict[str, Any]) -> str:
    """The accuracy part as Markdown."""
    few, many = result["counts"][0], result["counts"][-1]
    text = ACCURACY.format(
        **result["configurations"],
        few=few,
        many=many,
        jump=result["checks"]["jump"],
        fine=result["checks"]["fine plan"],
        same=result["same"],
    )
    shown = [tables.headline(result, count) for count in dict.fromkeys((many, few))]
    shown += [tables.chosen(result, many), tables.top(result, many)]
    folded = [tables.chosen(result, few)] if few != many else []
    folded += [*(tables.families(result, few, side) for side in ("diffusers", "urn")), tables.failures(result)]
    return text + _where(result) + "".join(map(markdown, shown)) + "".join(map(details, folded))


def overhead_section(result: dict[str, Any]) -> str:
    """The overhead part as Markdown."""
    shapes = dict.fromkeys(tuple(row["shape"]) for row in result["rows"])
    shown = [
        tables.aims(result),
        *(tables.speed(result, list(shape)) for shape in shapes),
        tables.schedulers(result),
        tables.setup(result),
        tables.noise(result),
    ]
    return OVERHEAD + _where(result) + "".join(map(markdown, shown)) + details(tables.every(result))


def precision_section(result: dict[str, Any]) -> str:
    """The precision part as Markdown."""
    shown = (tables.precision(result, name) for name in ("bfloat16", "float16"))
    return PRECISION + _where(result) + "".join(map(markdown, shown))


def tuned_section(result: dict[str, Any]) -> str:
    """The tuned part as Markdown."""
    return (
        TUNED.format(starts=result["starts"])
        + _where(result)
        + "".join(markdown(one(result)) for one in tuned_tables.TUNED)
    )


def tuners_section(result: dict[str, Any]) -> str:
    """The tuners' part as Markdown."""
    mixture, network = zip(result["limits"].values(), result["training"].values(), strict=True)
    text = TUNERS.format(mixture=mixture, network=network, starts=result["starts"])
    return text + _where(result) + "".join(map(markdown, tuned_tables.tuners(result)))


def markdown(table: Table) -> str:
    """A table with its title."""
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    return f"### {table.title}\n\n" + "".join(_line(cells) for cells in lines) + "\n"


def details(table: Table) -> str:
    """A table folded away under its title."""
    body = markdown(table).split("\n\n", 1)[1]
    return f"<details><summary>{table.title}</summary>\n\n{body}\n</details>\n\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |\n"


def _where(result: dict[str, Any]) -> str:
    m = result["machine"]
    busy = max(m["load"] or 0, m["load at the end"] or 0)
    note = ""
    if result["kind"] == "overhead" and busy > 1.3:
        note = " **The machine was shared with other programs: these times are noisy.**"
    return (
        f"{m['processor']}, {m['cores']} cores, {m['threads']} thread; Python {m['python']}, torch {m['torch']}, diffusers "
        f"{m['diffusers']}, Urn {m['urn']}; {result['seconds']:.0f} s, load average {m['load']} before and "
        f"{m['load at the end']} after.{note}\n\n"
    )


def _mark(kind: str, end: bool = False) -> str:
    return f"<!-- {kind}{' end' if end else ''} -->"


def _between(text: str, kind: str) -> str:
    return text.partition(f"{_mark(kind)}\n")[2].partition(_mark(kind, end=True))[0]
