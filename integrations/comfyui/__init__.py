"""Urn's samplers and grids as ComfyUI nodes: put this folder, or a link to it, into ComfyUI's custom_nodes.

At import it also adds a few of them to the lists of KSampler and BasicScheduler; see `lists.py`, or README.md.
"""

from importlib.util import find_spec

if find_spec("urn") is None:
    raise ImportError(
        "Urn's nodes need the package urn-samplers in the Python that runs ComfyUI: "
        "python -m pip install urn-samplers (in the portable version, python_embeded\\python.exe -m pip install ...)"
    )

from .lists import register
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

register()

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
