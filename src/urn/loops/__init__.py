"""Other ways to drive the same rows: each in a file of its own.

```
adaptive.py    step sizes chosen while sampling, sample by sample
likelihood.py  the log-density of a sample, by carrying it along the probability flow
```
"""

from .adaptive import AdaptiveResult, sample_adaptive
from .likelihood import log_likelihood

__all__ = ["AdaptiveResult", "log_likelihood", "sample_adaptive"]
