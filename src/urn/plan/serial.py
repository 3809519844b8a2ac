"""Plans as JSON. Floats are written so that they are read back bit for bit; a checksum tells damage."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from urn.processes import process_from_json, process_to_json

from .plan import Plan
from .rows import Apply, Array, Combine, Evaluate, Law, Node, Noise, PlanError, Row

FORMAT, VERSION = "urn-plan", 1
TUNED = "urn-tuned"  # a plan with the record of how it was found
ROWS = {row.kind: row for row in (Evaluate, Noise, Combine, Apply)}


def to_json(plan: Plan) -> str:
    """See `Plan.to_json`."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "method": plan.method,
        "options": _plain(plan.options),
        "order": plan.order,
        "exact_for": list(plan.exact_for),
        "process": process_to_json(plan.process),
        "times": _plain(plan.times),
        "inputs": [[name, _plain(law)] for name, law in plan.inputs],
        "rows": [{"kind": row.kind, **_plain(row)} for row in plan.rows],
        "outputs": [[name, register, _plain(node)] for name, register, node in plan.outputs],
    }
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1, allow_nan=False)


def from_json(text: str) -> Plan:
    """See `Plan.from_json`."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, TypeError) as error:
        raise PlanError(f"not JSON, so not a plan: {error}") from None
    if isinstance(content, dict) and content.get("format") == TUNED:
        content = content.get("plan")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise PlanError(f"not an Urn plan: 'format' is {found!r}, not {FORMAT!r}")
    if content.get("version") != VERSION:
        raise PlanError(f"a plan of version {content.get('version')!r}; this Urn reads version {VERSION}")
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content):
        raise PlanError(f"the plan is damaged: its checksum is {checksum!r}, its content gives {_checksum(content)!r}")
    try:
        return _plan(content)
    except PlanError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PlanError(f"the plan cannot be read: {type(error).__name__}: {error}") from None


def _plan(content: Mapping[str, Any]) -> Plan:
    return Plan(
        method=content["method"],
        options=_value(content["options"]),
        order=content["order"],
        exact_for=tuple(content["exact_for"]),
        process=process_from_json(content["process"]),
        times=_value(content["times"]),
        inputs=tuple((name, _law(law)) for name, law in content["inputs"]),
        rows=tuple(_row(row) for row in content["rows"]),
        outputs=tuple((name, register, _node(node)) for name, register, node in content["outputs"]),
    )


def _plain(item: Any) -> Any:
    """Rows, laws and nodes as JSON objects of their fields, infinite options as objects of their text."""
    if isinstance(item, Array):
        return {"array": item.to_json()}
    if isinstance(item, float) and not math.isfinite(item):
        return {"float": repr(item)}
    if isinstance(item, (tuple, list)):
        return [_plain(part) for part in item]
    if isinstance(item, (Node, Law, Evaluate, Noise, Combine, Apply)):
        return {f.name: _plain(getattr(item, f.name)) for f in fields(item)}
    return item


def _value(item: Any) -> Any:
    """JSON lists as tuples, arrays as Arrays; numbers and strings as they are."""
    if isinstance(item, list):
        return tuple(_value(part) for part in item)
    if isinstance(item, dict) and "array" in item:
        return Array.from_json(item["array"])
    return float(item["float"]) if isinstance(item, dict) and "float" in item else item


def _node(data: Any) -> Any:
    return None if data is None else Node(**{name: _value(part) for name, part in data.items()})


def _law(data: Mapping[str, Any]) -> Law:
    return Law(node=_node(data["node"]), std=_value(data["std"]), mean=_value(data["mean"]))


def _row(data: Mapping[str, Any]) -> Row:
    values = {name: _value(part) for name, part in data.items() if name != "kind"}
    if "node" in values:
        values["node"] = _node(values["node"])
    row: Row = ROWS[data["kind"]](**values)
    return row


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
