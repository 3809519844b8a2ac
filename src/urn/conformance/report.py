"""Verdicts of the conformance kit."""

from __future__ import annotations

from dataclasses import dataclass, field

VERDICTS = ("pass", "FAIL", "info", "could not run")


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        name: the check.
        verdict: "pass" or "FAIL" where something was promised; "info" for a measurement without a promise; "could not run"
            where the sampler raised or does not apply, with the reason as detail.
        detail: what was measured, in a line.
        numbers: the figures behind it, by name.
    """

    name: str
    verdict: str
    detail: str
    numbers: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"  {self.verdict:<13} {self.name:<18} {self.detail}"


@dataclass(frozen=True)
class Report:
    """What the kit found out about one sampler. `print` it for a line per check."""

    subject: str
    checks: tuple[Check, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing that was promised failed, and everything could be run."""
        return all(check.verdict in ("pass", "info") for check in self.checks)

    @property
    def order(self) -> float | None:
        """The fitted order (of the law, where the sampler is stochastic), None where it was not measured."""
        for check in self.checks:
            if "order" in check.numbers:
                return check.numbers["order"]
        return None

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are: {', '.join(check.name for check in self.checks)}")

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "NOT PASSED"
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([f"{self.subject}: {verdict} in {self.seconds:.1f} s", *notes, *map(str, self.checks)])
