"""docs/evidence.md from the results."""

from __future__ import annotations

from evidence.book import Result

HEAD = """# Evidence

What each paper's claim came to here: on models known in closed form, scikit-learn's digits, and the small network that Urn
ships. Written by `python -m evidence{options}`; nothing on this page is typed in by hand. A claim that does not hold here is
shown as not holding. It says something about these targets, not about the paper's own.

{held} of {total} findings hold, in {papers} papers.

"""


def page(results: list[Result], full: bool) -> str:
    """The page as Markdown: an overview, then a section a paper."""
    findings = [finding for result in results for finding in result.findings]
    head = HEAD.format(
        options=" --full" if full else "",
        held=sum(finding.holds for finding in findings),
        total=len(findings),
        papers=len(results),
    )
    overview = ["| paper | findings that hold | seconds |", "|---|---|---|"]
    for result in results:
        held = sum(finding.holds for finding in result.findings)
        overview.append(f"| {result.case.title} | {held} of {len(result.findings)} | {result.seconds:.0f} |")
    return head + "\n".join(overview) + "\n\n" + "\n".join(_section(result) for result in results)


def _section(result: Result) -> str:
    rows = ["| claim | expected | measured | holds |", "|---|---|---|---|"]
    for finding in result.findings:
        verdict = "yes" if finding.holds else "**no**" + (f": {finding.reason}" if finding.reason else "")
        rows.append(f"| {finding.claim} | {finding.expected} | {finding.measured} | {verdict} |")
    return f"## {result.case.title}\n\n{result.case.source}\n\n" + "\n".join(rows).replace("|x|", "\\|x\\|") + "\n"
