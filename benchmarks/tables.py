"""The results as tables of text, for the screen and the page: a title, a header, rows."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

Row = tuple[str, ...]


class Table(NamedTuple):
    """A table of strings."""

    title: str
    header: Row
    rows: list[Row]


NAMES = {
    ("diffusers", "settings"): "diffusers, by its settings",
    ("diffusers", "any"): "diffusers, any way",
    ("urn", "any"): "Urn",
    ("urn", "whole times"): "Urn, whole times",
}
TOP = 5


def headline(result: dict[str, Any], count: int) -> Table:
    """A line a budget: the RMS of each pool's choice, and the ratios."""
    header = ("calls", *NAMES.values(), "diffusers any way / Urn", "diffusers by its settings / Urn")
    rows = []
    for budget in result["budgets"]:
        chosen = {(c["side"], c["pool"]): c for c in choices_of(result, count) if c["budget"] == budget}
        ours = chosen[("urn", "any")]["over"]
        cells = [number(chosen[key]["rms"]) if key in chosen else "-" for key in NAMES]
        rows.append((str(budget), *cells, *(interval(ours.get(pool)) for pool in ("any", "settings"))))
    return Table(f"RMS error of the choice, {count:,} starts, half to choose and half to report", header, rows)


def chosen(result: dict[str, Any], count: int) -> Table:
    """A line a budget and pool: which configuration was chosen, and its errors."""
    header = ("calls", "side", "configuration", "made", "RMS", "median", "90 %", "diffusers any way / this")
    rows = []
    for c in choices_of(result, count):
        errors = [number(c[key]) for key in ("rms", "median", "q90")]
        name = f"{c['family']}, {c['grid']}"
        side = NAMES[(c["side"], c["pool"])]
        rows.append((str(c["budget"]), side, name, str(c["nfe"]), *errors, interval(c["over"].get("any"))))
    return Table(f"What was chosen, {count:,} starts", header, rows)


def top(result: dict[str, Any], count: int) -> Table:
    """The best methods of each side at each budget, each on its best grid, over all starts."""
    header = ("calls", "", "diffusers", "RMS", "median", "Urn", "RMS", "median")
    rows = []
    for budget in result["budgets"]:
        best = [best_grids(records_of(result, count, budget, side))[:TOP] for side in ("diffusers", "urn")]
        for place in range(max(map(len, best))):
            cells = []
            for side in best:
                r = side[place] if place < len(side) else None
                cells += [f"{r['family']}, {r['grid']}", number(r["rms"]), number(r["median"])] if r else ["-"] * 3
            rows.append((str(budget), str(place + 1), *cells))
    title = (
        f"The {TOP} best of each side, each on its best grid, {count:,} starts (all of them, which flatters a little)"
    )
    return Table(title, header, rows)


def families(result: dict[str, Any], count: int, side: str) -> Table:
    """Every method of a side: at each budget its RMS on its best grid, and which that is."""
    rows: dict[str, dict[int, str]] = {}
    for budget in result["budgets"]:
        for r in best_grids(records_of(result, count, budget, side)):
            rows.setdefault(r["family"], {})[budget] = f"{number(r['rms'])} {r['grid']}"
    cells = [(name, *(found.get(b, "-") for b in result["budgets"])) for name, found in sorted(rows.items())]
    header = ("method", *(f"{b} calls" for b in result["budgets"]))
    return Table(f"{side}: every method on its best grid, {count:,} starts", header, cells)


def failures(result: dict[str, Any]) -> Table:
    """What did not run, counted."""
    counted = Counter((f["side"], f["label"].split(" ")[0].rstrip(","), f["reason"][:110]) for f in result["failures"])
    rows = [(side, name, reason, str(number)) for (side, name, reason), number in sorted(counted.items())]
    return Table("Configurations that did not run", ("side", "method", "reason", "configurations and budgets"), rows)


def choices_of(result: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return [c for c in result["choices"] if c["starts"] == count]


def records_of(result: dict[str, Any], count: int, budget: int, side: str) -> list[dict[str, Any]]:
    return [r for r in result["records"] if (r["starts"], r["budget"], r["side"]) == (count, budget, side)]


def best_grids(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each family's record of least RMS, least first."""
    best: dict[str, dict[str, Any]] = {}
    for r in sorted(records, key=lambda r: r["rms"]):
        best.setdefault(r["family"], r)
    return list(best.values())


def speed(result: dict[str, Any], shape: list[int]) -> Table:
    """Time and kernels a step."""
    header = ("Urn", "diffusers", "Urn, us a step", "diffusers, us a step", "ratio", "of least")
    header += (
        "passes",
        "of copy bandwidth",
        "states held",
        "kernels",
        "scalar ones",
        "diffusers' kernels",
        "scalar ones",
    )
    rows = []
    for r in result["rows"]:
        if r["shape"] == shape:
            peer = f"{r['scheduler']}{' (nearest)' if r['nearest'] else ''}"
            times = [timing(r[side]) for side in ("urn", "diffusers")]
            kernels = [f"{r[side][key]:.1f}" for side in ("urn", "diffusers") for key in ("large", "small")]
            bandwidth = r["passes"] / 2 * r["copy"] / r["urn"]["median"]
            traffic = (f"{r['passes']:.1f}", f"{bandwidth:.2f}", f"{r['held']} ({r['needed']})")
            rows.append((r["name"], peer, *times, f"{r['ratio']:.2f}", f"{r['least ratio']:.2f}", *traffic, *kernels))
    return Table(f"A step beside the network at {tuple(shape)}, {result['steps']} steps", header, rows)


def aims(result: dict[str, Any]) -> Table:
    """What was aimed at before it was measured, and whether medians meet it."""
    found = {(r["name"], tuple(r["shape"])): r for r in result["rows"]}
    pipelines = {r["name"]: r for r in result["schedulers"]}
    rows = []

    def add(aim: str, middle: float, least: float, is_met: bool) -> None:
        rows.append((aim, f"{middle:.3g}", f"{least:.3g}", "yes" if is_met else "no"))

    for shape in dict.fromkeys(shape for _, shape in found):
        is_small = shape[0] == 1
        if is_small and (r := found.get(("ddim", shape))):
            add(f"ddim at {shape}: at most 15 us a step", *_pair(r["urn"]), r["urn"]["median"] <= 15)
        ratios = {"unipc_3": 20.0, "dpmpp_2m": 8.0, "euler": 1.0} if is_small else {"unipc_3": 7.0, "dpmpp_2m": 3.0}
        for name, least in ratios.items():
            if r := found.get((name, shape)):
                aim = f"{name} at {shape}: at least {least:g} times less than {r['scheduler']}"
                add(aim, r["ratio"], r["least ratio"], r["ratio"] >= least)
        for name in () if is_small else ("ddim", "dpmpp_2m", "unipc_3"):
            if r := found.get((name, shape)):
                shares = [r["passes"] / 2 * r["copy"] / time for time in _pair(r["urn"])]
                add(f"{name} at {shape}: at least 0.75 of copy bandwidth", shares[0], shares[1], shares[0] >= 0.75)
    for name in ("heun", "unipc_3"):
        if r := pipelines.get(name):
            add(f"{name} in a pipeline: less than {r['scheduler']}", r["ratio"], r["least ratio"], r["ratio"] > 1)
    return Table("What was aimed at", ("aim", "of medians", "of least times", "met"), rows)


def _pair(times: dict[str, float]) -> tuple[float, float]:
    return times["median"], times["least"]


def every(result: dict[str, Any]) -> Table:
    """Microseconds a model call, of every deterministic method."""
    found = sorted(result["every"]["methods"].items(), key=lambda item: item[1]["median"])
    rows = [(name, f"{r['calls']:.2g}", str(r["registers"]), timing(r)) for name, r in found]
    shape = tuple(result["every"]["shape"])
    return Table(f"Every deterministic method at {shape}", ("method", "calls a step", "registers", "us a call"), rows)


def precision(result: dict[str, Any], name: str) -> Table:
    """How far half precision ends from float64."""
    header = (
        "Urn",
        "diffusers",
        "steps",
        "Urn, median",
        "diffusers, median",
        "ratio",
        "Urn, RMS",
        "diffusers, RMS",
        "ratio",
    )
    rows = []
    for r in result["rows"]:
        ours, theirs = r["urn"][name], r["diffusers"][name]
        cells = [
            cell
            for key in ("median", "rms")
            for cell in (number(ours[key]), number(theirs[key]), f"{theirs[key] / ours[key]:.2f}")
        ]
        rows.append((r["method"], r["scheduler"], str(r["steps"]), *cells))
    return Table(f"{name}, {result['starts']} starts", header, rows)


def schedulers(result: dict[str, Any]) -> Table:
    """A step in a pipeline's loop."""
    header = ("UrnScheduler with", "in the place of", "us a step", "diffusers, us a step", "ratio", "of least")
    rows = [
        (
            r["name"],
            r["scheduler"],
            timing(r["urn"]),
            timing(r["diffusers"]),
            f"{r['ratio']:.2f}",
            f"{r['least ratio']:.2f}",
        )
        for r in result["schedulers"]
    ]
    return Table("In a pipeline at (1, 4, 64, 64)", header, rows)


def setup(result: dict[str, Any]) -> Table:
    """Time before the loop."""
    header = ("Urn", "diffusers", "steps", "compiling, us", "again, us", "scheduler and timesteps, us", "ratio")
    rows = [
        (
            r["name"],
            r["scheduler"],
            str(r["steps"]),
            timing(r["urn"]),
            timing(r["again"]),
            timing(r["diffusers"]),
            f"{r['ratio']:.3f}",
        )
        for r in result["setup"]
    ]
    return Table("Before the loop", header, rows)


def noise(result: dict[str, Any]) -> Table:
    """Drawing noise."""
    found = result["noise"]
    least = found["torch.randn"]["median"]
    kinds = [(name, values) for name, values in found.items() if isinstance(values, dict)]
    rows = [(name, timing(values), f"{values['median'] / least:.2f}") for name, values in kinds]
    return Table(f"One draw of {tuple(found['shape'])}", ("noise", "us", "times torch.randn"), rows)


def spread(values: list[float]) -> str:
    """estimate [low, high]."""
    return f"{values[0]:.3g} [{values[1]:.3g}, {values[2]:.3g}]"


def number(value: float) -> str:
    return f"{value:.3g}" if value >= 1e-4 else f"{value:.1e}"


def interval(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def timing(found: dict[str, float]) -> str:
    """median [quartiles], least."""
    return f"{found['median']:.4g} [{found['low']:.4g}, {found['high']:.4g}], least {found['least']:.4g}"
