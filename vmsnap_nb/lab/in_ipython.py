"""What an import adds to IPython: the cell magic ``%%guest``, and short tracebacks of interrupts.

It loads nothing: what the magic needs is loaded when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["install"]


def install(shell: Any) -> None:
    """Add both to a shell; a magic of that name, or a handler of the user's own, stays."""
    if "guest" not in shell.magics_manager.magics["cell"]:

        def guest(line: str, cell: str) -> None:
            """Run the cell in a guest with its /bin/sh: %%guest NAME [--timeout SECONDS] [--lab LAB] [--out NAME]."""
            from vmsnap_nb.lab.magic import register

            register(shell)
            shell.run_cell_magic("guest", line, cell)

        shell.register_magic_function(guest, magic_kind="cell", magic_name="guest")
    if not shell.custom_exceptions:
        shell.set_custom_exc((KeyboardInterrupt,), _show_interrupt)


def _show_interrupt(
    shell: Any, kind: type[BaseException], error: Any, frames: TracebackType, tb_offset: int | None = None
) -> None:
    """Show an interrupt as it is usual, but without frames of vmsnap_nb."""
    from vmsnap_nb.views.error_lines import error_lines, is_ours

    if is_ours(error):
        error._render_traceback_ = lambda: error_lines(error)  # IPython asks for it
    shell.showtraceback((kind, error, frames), tb_offset=tb_offset)
