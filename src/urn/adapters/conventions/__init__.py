"""Other people's networks as models: a table of conventions, and one constructor for each.

A network's convention is: which way its time runs and what it is shown of it, how data and noise are mixed, and what it
predicts. None of that can be read off its weights, and a wrong guess gives samples that look almost right, or noise. Each
constructor here takes a network as its own code calls it, and returns an `urn.Model`; `CONVENTIONS` says what each assumes,
and `urn.check_prediction(model, some_data)` whether that fits.

```
flow_matching, sit, rectified_flow, stochastic_interpolant    time runs from noise, 0, to data, 1
sd3, flux                                                     from data, 0, to noise
edm, edm_raw, k_diffusion                                     time is sigma
ddpm, score_sde                                               integer or continuous times of a diffusion
```

Nothing of any of these libraries is imported.
"""

from .diffusions import ddpm, edm, edm_raw, k_diffusion, score_sde
from .flows import flow_matching, flux, rectified_flow, sd3, sit, stochastic_interpolant
from .table import CONVENTIONS, Convention, table

__all__ = [
    "CONVENTIONS",
    "Convention",
    "ddpm",
    "edm",
    "edm_raw",
    "flow_matching",
    "flux",
    "k_diffusion",
    "rectified_flow",
    "score_sde",
    "sd3",
    "sit",
    "stochastic_interpolant",
    "table",
]
