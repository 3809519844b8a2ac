"""`python docs/write_diffusers.py`: measure the tables of docs/diffusers.md, scheduler by scheduler, and put them there."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import diffusers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adapters"))  # no part of the installed package

from adapters_schedulers import table

PAGE = Path(__file__).with_name("diffusers.md")
BEGIN, END = "<!-- written by docs/write_diffusers.py -->\n", "<!-- end -->\n"

if __name__ == "__main__":
    diffusers.utils.logging.set_verbosity(logging.ERROR)
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}\n{END}{rest.split(END)[1]}")
