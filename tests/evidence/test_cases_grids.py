"""The case of Align Your Steps at quick size: what is an identity in it holds, and the bound is lowest on its own grid."""

from __future__ import annotations

import re

from evidence.book import all_cases, run_case
from evidence.cases import align_your_steps


def test_align_your_steps() -> None:
    found = run_case(next(one for one in all_cases() if one.title == align_your_steps.TITLE), full=False).findings
    assert "arXiv 2404.14507" in next(one.source for one in all_cases() if one.title == align_your_steps.TITLE)
    cosines, tangent, *bounds = found[:4]
    assert cosines.holds
    assert tangent.holds
    for finding in bounds:  # KL (bound) of AYS, EDM's and log-SNR at each number of steps
        pairs = re.findall(r"([\d.e+]+) \(([\d.e+]+)\)", finding.measured)
        rows = [pairs[place : place + 3] for place in (0, 3, 6)]
        for column in zip(*rows, strict=True):
            assert float(column[0][1]) == min(float(bound) for _, bound in column)
            assert all(float(kl) < float(bound) for kl, bound in column)
