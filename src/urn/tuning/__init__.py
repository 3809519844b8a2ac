"""Tuning: the best plan for a model and a number of model calls.

```
front.py       tune, the front door
task.py        a model, a budget, an objective, starts to train on and starts held out
objectives.py  what a plan is judged by
untuned.py     the plans that every search starts from
space.py       the free choices of a plan
search.py      a search under way: its trials, in an Optuna study
tuners/        one file per tuner
record.py      how a plan was found; tuned plans as files
text.py, plot.py  a record as text, and as a picture
shipped.py     the tuned plans that Urn ships, in plans/
```
"""

from .front import TuningInterrupted, tune
from .objectives import Objective, Own, ToData, ToReference
from .record import Entry, Record, Tuned, load
from .search import Search, Tried
from .shipped import shipped
from .task import Figure, Starts, Task, TuningError
from .tuners import Tuner, find_tuner, tuner, tuners
from .untuned import plan_within, untuned_plans

__all__ = [
    "Entry",
    "Figure",
    "Objective",
    "Own",
    "Record",
    "Search",
    "Starts",
    "Task",
    "ToData",
    "ToReference",
    "Tried",
    "Tuned",
    "Tuner",
    "TuningError",
    "TuningInterrupted",
    "find_tuner",
    "load",
    "plan_within",
    "shipped",
    "tune",
    "tuner",
    "tuners",
    "untuned_plans",
]
