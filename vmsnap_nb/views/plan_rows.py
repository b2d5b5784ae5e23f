"""A plan as the handout draws it: the images before in the upper row, those after in the lower one."""

from __future__ import annotations

from dataclasses import replace

from vmsnap_nb.views.figure import Block, Move, Options
from vmsnap_nb.views.moves import move_between
from vmsnap_nb.views.plan_sides import Sides, lineages
from vmsnap_nb.views.trees import chain_paths, tree_blocks
from vmsnap_nb.words.message import t

__all__ = ["plan_rows"]


def plan_rows(sides: Sides, options: Options) -> tuple[tuple[Block, ...], tuple[Move, ...], tuple[str, ...]]:
    """Return blocks, moves and notes: an image is drawn below itself."""
    plan, above, below = sides.plan, sides.above, sides.below
    # What moves is at the lower edge of what is above, and at the upper edge of what is below: arrows cross no box.
    leaving = dict.fromkeys(lineages(above, [move.source for move in plan.moves]), 1)
    before_blocks, before_notes = tree_blocks(above, options, names=sides.names, marks=sides.gone, order=leaving)
    columns = chain_paths(before_blocks)
    after_blocks, after_notes = tree_blocks(
        below, options, names=sides.names, marks=sides.kept, columns=columns, order=_order_after(sides)
    )
    if before_blocks == after_blocks and not plan.moves:
        blocks = tuple(_captioned(before_blocks, t("before and after")))
    else:
        blocks = (*_captioned(before_blocks, t("before")), *_captioned(after_blocks, t("after")))
    notes = tuple(dict.fromkeys((*before_notes, *after_notes)))
    return blocks, _moves(sides, blocks, len(before_blocks) or 1), notes


def _order_after(sides: Sides) -> dict[str, int]:
    """Put first what takes data, then that to which writes went and still go: what a plan leaves behind gives way."""
    plan, above, below = sides.plan, sides.above, sides.below
    active = [path for path in below.paths if path in above.paths and above.active(path) and path not in plan.invalid]
    first = dict.fromkeys(lineages(below, active), -1)
    return first | dict.fromkeys(lineages(below, [move.target for move in plan.moves]), -2)


def _captioned(blocks: list[Block], caption: str) -> list[Block]:
    if not blocks:
        return [Block((), (), t("{caption}: no images", caption=caption))]
    return [replace(block, caption=caption if number == 0 else "") for number, block in enumerate(blocks)]


def _moves(sides: Sides, blocks: tuple[Block, ...], first_after: int) -> tuple[Move, ...]:
    places: dict[tuple[bool, str], tuple[int, int]] = {}
    for number, block in enumerate(blocks):
        for place, box in enumerate(block.boxes):
            if box.path is not None:
                places[number >= first_after, box.path] = (number, place)
    moves: list[Move] = []
    for move in sides.plan.moves:
        source, target = places.get((False, move.source)), places.get((True, move.target))
        if source is not None and target is not None:
            moves.append(move_between(source, target, move.label, move.size))
    return tuple(moves)
