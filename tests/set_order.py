"""Finds where a program goes through a set one by one: the order differs from process to process, as hashes do.

Ruff knows only a loop over a set that is written out (PLC0208). Here a set is also what ``set()``, ``frozenset()``, a
comprehension, an operator or a method makes of one, and every name or attribute that is bound or annotated as one
somewhere in the same file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

MAKERS = {"set", "frozenset"}
KINDS = {"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"}
METHODS = {"union", "intersection", "difference", "symmetric_difference"}
OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
# What goes through its argument in its order, and what does so without letting the order out.
ORDERED = {
    "list",
    "tuple",
    "enumerate",
    "iter",
    "map",
    "filter",
    "zip",
    "reversed",
    "deque",
    "chain",
    "fromkeys",
    "join",
}
UNORDERED = {"sorted", "set", "frozenset", "any", "all", "len"}


def last(node: ast.AST) -> str:
    """Return the last part of a name or an attribute."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class Sets:
    """What is a set in one file."""

    def __init__(self, tree: ast.AST) -> None:
        self._names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None and _says_set(node.annotation):
                self._names.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
        before = -1
        while before != (before := len(self._names)):  # a name may be bound to another one
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        self._bind(target, node.value)
                elif isinstance(node, ast.NamedExpr):
                    self._bind(node.target, node.value)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for each, its in zip(target.elts, value.elts, strict=True):
                self._bind(each, its)
        elif isinstance(target, ast.Name | ast.Attribute) and self.holds(value):
            self._names.add(ast.unparse(target))

    def holds(self, node: ast.expr) -> bool:
        """Return whether *node* is a set, as far as this file tells."""
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Name | ast.Attribute):
            return ast.unparse(node) in self._names
        if isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
            return any(self.holds(side) or _keys(side) for side in (node.left, node.right))
        if isinstance(node, ast.IfExp):
            return self.holds(node.body) or self.holds(node.orelse)
        if isinstance(node, ast.Call):
            made = isinstance(node.func, ast.Name) and node.func.id in MAKERS
            return made or (last(node.func) in METHODS and isinstance(node.func, ast.Attribute))
        return False


def _says_set(annotation: ast.expr) -> bool:
    kind = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return last(kind) in KINDS


def _keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last(node.func) in ("keys", "items") and not node.args


def walks(tree: ast.AST) -> list[int]:
    """Return the lines at which *tree* goes through a set in an order that somebody could notice."""
    sets = Sets(tree)
    harmless = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last(node.func) in UNORDERED
        for argument in node.args
    }
    return sorted(line for node in ast.walk(tree) for line in _walked(node, sets, harmless))


def _walked(node: ast.AST, sets: Sets, harmless: set[int]) -> Iterator[int]:
    if isinstance(node, ast.For | ast.AsyncFor) and sets.holds(node.iter):
        yield node.lineno
    elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp) and id(node) not in harmless:
        yield from (node.lineno for generator in node.generators if sets.holds(generator.iter))
    elif isinstance(node, ast.Starred | ast.YieldFrom) and sets.holds(node.value):
        yield node.lineno
    elif isinstance(node, ast.Call):
        if last(node.func) in ORDERED and any(sets.holds(argument) for argument in node.args):
            yield node.lineno
        # min and max of a set depend on its order where the key of two is the same; pop takes whichever comes first.
        tied = last(node.func) in ("min", "max") and any(word.arg == "key" for word in node.keywords)
        if tied and any(sets.holds(argument) for argument in node.args):
            yield node.lineno
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and sets.holds(node.func.value):
            yield node.lineno
