"""Tuning: the best plan for a model and a number of model calls.

```
front.py       tune, the front door
task.py        a model, a budget, an objective, starts to train on and starts held out
objectives.py  what a plan is judged by
dense.py       any plan with one call a step as free weights
untuned.py     the plans that every search starts from
space.py       the free choices of a plan
search.py      a search under way: its trials, in an Optuna study
tuners/        one file per tuner
record.py      how a plan was found; tuned plans as files
text.py        a record as text
```
"""

from .dense import dense_plan, dense_weights
from .front import TuningInterrupted, tune
from .objectives import Objective, Own, ToData, ToReference
from .record import Entry, Record, Tuned, load
from .search import Search, Tried
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
    "dense_plan",
    "dense_weights",
    "find_tuner",
    "load",
    "plan_within",
    "tune",
    "tuner",
    "tuners",
    "untuned_plans",
]
