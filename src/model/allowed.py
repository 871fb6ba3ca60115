"""What may stand at a place of a file, in the words in which a mistake is told: read off a JSON Schema."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
_PLAIN = re.compile(r"[\w$-]{1,40}", re.ASCII)  # a key that is shown as it stands
_KEYLIKE = re.compile(r"0x[0-9a-fA-F]{8,}|(?=[0-9]*[a-fA-F])[0-9a-fA-F]{16,}")
Location = tuple[int | str, ...]  # where a key stands: ("markets", 0, "K")
Node = Mapping[str, Any]  # a part of a JSON Schema


def written(loc: Location) -> str:
    """Return ``markets[0].base_spread`` for ``("markets", 0, "base_spread")``; a strange key as JSON, cut to 40."""
    names = (
        f"[{part}]" if isinstance(part, int) else f".{part if _PLAIN.fullmatch(part) else shown(part)}" for part in loc
    )
    return "".join(names).removeprefix(".")


def shown(value: object) -> str:
    """Return *value* as JSON, cut to 40 letters; what may be a key stays out, wherever it was pasted."""
    text = _KEYLIKE.sub("***", json.dumps(value, ensure_ascii=True, default=str))
    return text if len(text) <= 40 else f"{text[:37]}..."


def hint(key: str, node: Node) -> str:
    """Return what to write instead of the unknown *key* at a schema *node*: the nearest one that is known, or all."""
    keys = [known for known in node.get("properties", {}) if known != "$schema"]
    if near := difflib.get_close_matches(key, keys, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"allowed are {', '.join(keys)}."


def node_at(root: Node, loc: Location) -> Node:
    """Return the part of the JSON Schema *root* for the key at *loc*; empty for a place that it does not know."""

    def followed(node: Node) -> Node:
        reference = node.get("$ref")
        return {**root["$defs"][reference.rpartition("/")[2]], **node} if reference else node

    node = followed(root)
    for part in loc:
        node = followed(node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {}))
    return node


def allowed(node: Node) -> str:
    """Return what may stand at a schema *node*, in words: ``a number from 0 to 0.05``, ``"demo" or "mainnet"``."""
    if choices := node.get("anyOf"):
        # Decimal is described as "a number or a text of digits"; the number says it all.
        kinds = {choice.get("type") for choice in choices}
        return " or ".join(allowed(c) for c in choices if not (c.get("type") == "string" and "number" in kinds))
    if choices := node.get("enum"):
        return " or ".join(json.dumps(choice) for choice in choices)
    words = {
        "number": "a number",
        "integer": "a whole number",
        "string": "a text",
        "boolean": "true or false",
        "array": "a list",
        "object": "an object",
        "null": "null",
    }
    return " ".join(filter(None, (words.get(node.get("type", ""), ""), _range(node))))


def _range(node: Node) -> str:
    """Return ``from 0 to 1``, ``above 0``, ``(1 to 50 entries)``… or an empty text when *node* has no bounds."""
    bounds = [f"{word} {_plain(node[key])}" for key, word in BOUNDS.items() if key in node]
    for kind, least, most in (("characters", "minLength", "maxLength"), ("entries", "minItems", "maxItems")):
        if least in node:
            bounds.append(f"({node[least]} to {node[most]} {kind})" if most in node else "(not empty)")
    return " ".join(bounds)


def _plain(number: float) -> str:
    """Return a number as people write it: 1000000, 0.00001, never 1e-05."""
    return f"{Decimal(str(number)).normalize():f}"
