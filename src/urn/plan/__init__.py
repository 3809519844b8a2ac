"""The plan and its parts.

```
rows.py       the four kinds of row, nodes, laws
plan.py       Plan, and Draft, its differentiable form
functions.py  the named maps that Apply rows call
checks.py     what is checked at construction, and what a plan costs
text.py       printing, and the difference of two plans
serial.py     JSON
```
"""

from .functions import FUNCTIONS, register_function
from .plan import Draft, Plan
from .rows import Apply, Array, Combine, Evaluate, Law, Node, Noise, PlanError, Read, Register, Row, Rows

__all__ = [
    "FUNCTIONS",
    "Apply",
    "Array",
    "Combine",
    "Draft",
    "Evaluate",
    "Law",
    "Node",
    "Noise",
    "Plan",
    "PlanError",
    "Read",
    "Register",
    "Row",
    "Rows",
    "register_function",
]
