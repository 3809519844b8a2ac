"""Samplers of other libraries as subjects of the kit: `urn.check(diffusers("UniPCMultistepScheduler", solver_order=3))`.

```
schedulers.py  diffusers(name, **options), driven as a pipeline drives it
grids.py       how a scheduler is put on the kit's grid, by its own settings
samplers.py    k_diffusion(name, **options), called as its script calls it
pipeline.py    the loop of a pipeline, and what kind of states each scheduler has
levels.py      which noise level a scheduler means by its times, and what its network answers there
network.py     the kit's model in a peer's units
precision.py   a library's file in float64, with its noise handed in
measures.py    what is measured of peers alone: their own grid as installed, calls a step
facts.py       the orders that their documentation gives; what is not run, and why
```
Neither library is imported before it is asked for.
"""

from collections.abc import Callable
from typing import Any

from urn.conformance.subject import Subject

from .samplers import k_diffusion
from .schedulers import diffusers

LIBRARIES: dict[str, Callable[..., Subject]] = {"diffusers": diffusers, "k_diffusion": k_diffusion}


def read_peer(text: str, options: dict[str, Any]) -> Subject | None:
    """The subject that `diffusers:NAME` or `k_diffusion:NAME` names, or None where the text names no library.

    Raises:
        ImportError: the library is not installed.
        ValueError: another library, or what `diffusers` and `k_diffusion` raise.
    """
    library, colon, name = text.partition(":")
    if not colon:
        return None
    if library not in LIBRARIES or not name:
        raise ValueError(f"{text!r} must be a method, or {' or '.join(f'{one}:NAME' for one in LIBRARIES)}")
    return LIBRARIES[library](name, **options)


__all__ = ["LIBRARIES", "diffusers", "k_diffusion", "read_peer"]
