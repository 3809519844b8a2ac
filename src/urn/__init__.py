"""Urn: samplers for diffusion and flow models as plans: compiled, printed, checked in closed form, run by one executor.

```python
import urn

process = urn.VP.linear()
model = urn.Model(net, process, predicts="epsilon", shape=(3, 32, 32))
x = urn.sample(model, "unipc", shape=(64, 3, 32, 32), steps=8, seed=0)
print(urn.compile_plan("unipc", process, steps=8))
```
"""

from urn import exact, frames, grids, metrics, processes, tuning
from urn.comparison import compare
from urn.compiler import compile_plan
from urn.conformance import check
from urn.executor import execute
from urn.grids import GRIDS
from urn.guidance import classifier_free_guidance
from urn.loops import log_likelihood, rollout, sample_adaptive
from urn.method import Method, method
from urn.methods import METHODS
from urn.model import Model
from urn.noise import sample_seeds
from urn.plan import Draft, Plan, PlanError, register_function
from urn.probe import PredictionWarning, check_prediction
from urn.processes import (
    OUVE,
    RDDM,
    VE,
    VP,
    Bridge,
    Flow,
    SubVP,
    Tabulated,
    register_process,
)
from urn.sampling import SamplingError, SamplingInterrupted, sample
from urn.schemes.reflected import reflected
from urn.schemes.stretches import mixed, noise_shares, varied
from urn.schemes.x0_map import mapped_x0
from urn.tuning import tune

__version__ = "0.1.0"

__all__ = [
    "GRIDS",
    "METHODS",
    "OUVE",
    "RDDM",
    "VE",
    "VP",
    "Bridge",
    "Draft",
    "Flow",
    "Method",
    "Model",
    "Plan",
    "PlanError",
    "PredictionWarning",
    "SamplingError",
    "SamplingInterrupted",
    "SubVP",
    "Tabulated",
    "check",
    "check_prediction",
    "classifier_free_guidance",
    "compare",
    "compile_plan",
    "exact",
    "execute",
    "frames",
    "grids",
    "log_likelihood",
    "mapped_x0",
    "method",
    "metrics",
    "mixed",
    "noise_shares",
    "processes",
    "reflected",
    "register_function",
    "register_process",
    "rollout",
    "sample",
    "sample_adaptive",
    "sample_seeds",
    "tune",
    "tuning",
    "varied",
]
