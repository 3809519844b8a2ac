"""Where a benchmark ran, and what else the machine was doing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import urn


def facts() -> dict[str, Any]:
    """Versions, processor, threads, and the load average, which says whether the machine was this program's alone."""
    return {
        "urn": urn.__version__,
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load(),
    }


def load() -> float | None:
    """Programs that wanted a core, on average over the last minute; this one counts for one."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
