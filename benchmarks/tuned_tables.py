"""The tables of tuned plans and of tuners."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import Table, interval, number, spread


def tuned(result: dict[str, Any]) -> Table:
    """Tuned plans on the mixture."""
    header = ("calls", "", "plan", "RMS", "median", "90 %", "by its settings / this", "any way / this")
    header += ("wanted", "evaluations", "s")
    rows = []
    for row in result["rows"]:
        for line in row["lines"]:
            errors = [number(line[key]) for key in ("rms", "median", "q90")]
            over = line.get("over", {})
            ratios = [interval(over.get(f"diffusers, {name}")) for name in ("by its settings", "any way")]
            wanted = f"{row['target']:g}" if line["name"] == "Urn, tuned" else "-"
            cost = (f"{line['evaluations']:,}", f"{line['seconds']:.0f}") if "seconds" in line else ("-", "-")
            rows.append((str(row["budget"]), line["name"], line["label"], *errors, *ratios, wanted, *cost))
    return Table(f"Tuned on the mixture, {result['starts']:,} unseen starts", header, rows)


def overfitting(result: dict[str, Any]) -> Table:
    """Error against the number of training starts."""
    header = ("calls", "training starts", "RMS on them", "median", "RMS on others", "median", "s")
    rows = [
        (
            str(line["budget"]),
            f"{line['starts']:,}",
            *(number(line[key]) for key in ("train", "train median", "rms", "median")),
            f"{line['seconds']:.0f}",
        )
        for line in result["overfitting"]
    ]
    return Table("Overfitting: error against the number of training starts", header, rows)


def tuned_half(result: dict[str, Any]) -> Table:
    """Tuned plans in half precision."""
    header = ("calls", "plan", "states", "from its own float64 run", "from the exact end", "in float64")
    rows = [
        (str(row["budget"]), one["name"], one["dtype"], *(number(one[key]) for key in ("rounding", "error", "without")))
        for row in result["rows"]
        for one in row["half"]
    ]
    return Table("Tuned in half precision, medians", header, rows)


def tuned_digits(result: dict[str, Any]) -> Table:
    """Tuned plans on the digits network."""
    found = result["digits"]
    rows = [
        (str(line["budget"]), line["name"], line["label"], *(spread(line[key]) for key in ("energy", "frechet")))
        for line in found["lines"]
    ]
    rows.append(("-", "training digits", "", *(number(found["floor"][key]) for key in ("energy", "frechet"))))
    title = f"The digits network, {found['samples']:,} samples beside the test digits"
    return Table(title, ("calls", "", "plan", "energy distance", "Frechet distance"), rows)


def searched(result: dict[str, Any]) -> Table:
    """What a search gains over UniPC at equal calls."""
    rows = [
        (str(one["budget"]), one["name"], *(spread([100 * v for v in one[key]]) for key in ("energy", "frechet")))
        for one in result["digits"]["gains"]
    ]
    header = ("calls", "", "energy distance, % less", "Frechet distance, % less")
    return Table("The digits network: less than UniPC's at equal calls", header, rows)


TUNED = (tuned, overfitting, tuned_half, tuned_digits, searched)  # of the part on tuned plans


def tuners(result: dict[str, Any]) -> list[Table]:
    """Every tuner at equal seconds, a table a problem and budget, the best first."""
    header = ("tuner", "plan", "RMS", "median", "90 %", "untuned / this", "plans tried", "evaluations", "s")
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault((row["problem"], row["budget"]), []).append(row)
    tables = []
    for (problem, budget), rows in found.items():
        lines = []
        for row in sorted(rows, key=lambda row: row.get("rms", float("inf"))):
            if "refused" in row:
                lines.append((row["tuner"], f"refused: {row['refused']}", *["-"] * 7))
                continue
            label = row["label"] if row["returned"] == "tuned" else f"{row['label']} (untuned)"
            errors = [number(row[key]) for key in ("rms", "median", "q90")]
            cost = (f"{row['plans']:,}", f"{row['evaluations']:,}", f"{row['seconds']:.0f}")
            lines.append((row["tuner"], label, *errors, interval(row.get("over")), *cost))
        tables.append(Table(f"Every tuner: the {problem}, {budget} calls", header, lines))
    return tables
