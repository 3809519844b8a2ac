"""The command line `urn`.

```
app.py      the root command, and the commands that only list things
plans.py    urn plan
sample.py   urn sample
train.py    urn train
runs.py     a run of `urn sample` and the folder it is kept in, batch by batch
models.py   models by name
specs.py    names with options: `flow:shift=3`, `karras:rho=5`, `ddim:eta=0.5`
screen.py   what is printed, and how errors end
```
"""

from .app import app

__all__ = ["app"]
