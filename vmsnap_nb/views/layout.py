"""Puts the boxes of a tree on a grid: the first of several children stays on its parent's row, the others go below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from vmsnap_nb.views.figure import Arrow, Block, Box
from vmsnap_nb.views.folding import Fold, Node

__all__ = ["lay_out"]

_OWN_TRUNKS = 3  # more children below than this share one trunk


class MakeBox(Protocol):
    """Makes the box of an item at a place."""

    def __call__(self, what: str | Fold, /, *, row: int, column: int, trunks: int) -> Box:
        """Make it."""


def lay_out(
    tree: Node,
    make: MakeBox,
    *,
    columns: Mapping[str, int] | None = None,
    changed: Callable[[str], bool] = lambda _: False,
) -> Block:
    """Lay out one tree: the root at row 0 and column 0, parents before children.

    `columns` are those that items have in another figure and keep in this one if they can; `changed` is whether the
    arrow of an item is drawn as one that a plan changes.
    """
    columns = columns or {}
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    rows = 0
    stack: list[tuple[Node, int | None, int | None]] = [(tree, None, None)]  # node, parent's place, trunk
    while stack:
        node, parent, trunk = stack.pop()
        column = 0 if parent is None else boxes[parent].column + 1
        if isinstance(node.what, str):
            column = max(column, columns.get(node.what, 0))
        if parent is not None and trunk is None:
            row = boxes[parent].row
        else:
            row, rows = rows, rows + 1
        below = max(len(node.children) - 1, 0)
        trunks = below if below <= _OWN_TRUNKS else 1
        place = len(boxes)
        boxes.append(make(node.what, row=row, column=column, trunks=trunks))
        if parent is not None:
            arrows.append(Arrow(place, parent, trunk, isinstance(node.what, str) and changed(node.what)))
        for number in range(below, -1, -1) if node.children else ():
            at = None if number == 0 else below - number if below <= _OWN_TRUNKS else 0
            stack.append((node.children[number], place, at))
    return Block(tuple(boxes), tuple(arrows))
