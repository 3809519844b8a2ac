"""The conformance kit: does a sampler do what it says? Measured on targets known in closed form, in under a minute.

```
subject.py   what is checked: a method of Urn's, or anybody's callable
targets.py   skewed targets, and the exact end of their trajectories
checks.py    the checks, one function each
probing.py   the exact law of a sampler that is affine in its noise
report.py    verdicts, a line each
kit.py       check()
peers/       diffusers' schedulers and k-diffusion's samplers as subjects
```
"""

from .kit import check
from .report import Check, Report
from .subject import Subject

__all__ = ["Check", "Report", "Subject", "check"]
