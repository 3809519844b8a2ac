"""Tuning: the best plan for a model and a number of model calls.

```
front.py       tune, the front door
task.py        a model, a budget, an objective, starts to train on and starts held out
objectives.py  what a plan is judged by
untuned.py     the plans that every search starts from
candidates.py  a plan's times and choices before it is compiled; the untuned plans as such
space.py       the free choices of a plan
evolution.py   populations in such a space, in the study
surrogate.py   an exact mixture in a network's place
search.py      a search under way: its trials, in an Optuna study
tuners/        one file per tuner
record.py      how a plan was found; tuned plans as files
text.py        a record as text
```
"""

from .candidates import Candidate, untuned_candidates
from .front import TuningInterrupted, tune
from .objectives import Objective, Own, ToData, ToReference
from .record import Entry, Record, Tuned, load
from .search import Search, Tried
from .space import Space
from .surrogate import Transfer, rank_transfer, surrogate
from .task import Figure, Starts, Task, TuningError
from .tuners import Tuner, find_tuner, tuner, tuners
from .untuned import plan_within, untuned_plans

__all__ = [
    "Candidate",
    "Entry",
    "Figure",
    "Objective",
    "Own",
    "Record",
    "Search",
    "Space",
    "Starts",
    "Task",
    "ToData",
    "ToReference",
    "Transfer",
    "Tried",
    "Tuned",
    "Tuner",
    "TuningError",
    "TuningInterrupted",
    "find_tuner",
    "load",
    "plan_within",
    "rank_transfer",
    "surrogate",
    "tune",
    "tuner",
    "tuners",
    "untuned_candidates",
    "untuned_plans",
]
