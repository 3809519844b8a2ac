"""Any plan inside an unchanged diffusers pipeline, and a saved pipeline as a model.

```
scheduler.py  UrnScheduler: what a pipeline calls
source.py     what another scheduler's config says of the network: its process, its prediction, the times of its steps
chosen.py     what a config holds of Urn's
segments.py   a plan cut at its model calls, since in a pipeline the loop is the pipeline's
saved.py      load: a saved pipeline's network as a model; pipelines that take a prompt
```
"""

from importlib.util import find_spec

if find_spec("diffusers") is None:
    raise ImportError("urn.adapters.diffusers needs diffusers: pip install 'urn-samplers[diffusers]'")

from urn.adapters.diffusers.saved import load
from urn.adapters.diffusers.scheduler import UrnScheduler

__all__ = ["UrnScheduler", "load"]
