"""Tuning: the best plan for a model and a number of model calls.

```
front.py       tune, the front door; arguments.py, what it refuses; resumed.py, whether a search that goes on is the same
task.py        a model, a budget, an objective, starts to train on and starts held out
objectives.py  what a plan is judged by
dense.py       any plan with one call a step as free weights
sensitivity.py, least_squares.py, descent.py   a plan's samples by its numbers, and the fits of these
times.py       a grid as free numbers
untuned.py     the plans that every search starts from
candidates.py  a plan's times and choices before it is compiled; the untuned plans as such
space.py       the free choices of a plan
evolution.py   populations in such a space, in the study
surrogate.py   an exact mixture in a network's place
refinement.py  descent on a function of the samples, judged on starts kept from it
search.py      a search under way: its trials, in an Optuna study
tuners/        one file per tuner
trajectories.py, stepwise.py   states on the way, and numbers fitted to them step by step
starts.py      one start for every condition
transport.py   starts on the way, by optimal transport from noise to a bank of states
record.py      how a plan was found; tuned plans as files
text.py, plot.py  a record as text, and as a picture
shipped.py     the tuned plans that Urn ships, in plans/
```
"""

from .candidates import Candidate, untuned_candidates
from .dense import dense_plan, dense_weights
from .front import TuningInterrupted, tune
from .objectives import Objective, Own, ToData, ToReference
from .record import Entry, Record, Tuned, load
from .search import Search, Tried
from .shipped import shipped
from .space import Space
from .starts import BestStart, best_start
from .surrogate import Transfer, rank_transfer, surrogate
from .task import Figure, Starts, Task, TuningError
from .transport import Transport, nearest, transport_starts
from .tuners import Tuner, find_tuner, tuner, tuners
from .untuned import plan_within, untuned_plans

__all__ = [
    "BestStart",
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
    "Transport",
    "Tried",
    "Tuned",
    "Tuner",
    "TuningError",
    "TuningInterrupted",
    "best_start",
    "dense_plan",
    "dense_weights",
    "find_tuner",
    "load",
    "nearest",
    "plan_within",
    "rank_transfer",
    "shipped",
    "surrogate",
    "transport_starts",
    "tune",
    "tuner",
    "tuners",
    "untuned_candidates",
    "untuned_plans",
]
