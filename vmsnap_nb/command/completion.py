"""Completion in shells: of words that bash cuts at ``:`` and ``=``, and with options that follow the cursor."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import BashComplete, CompletionItem, split_arg_string

__all__ = ["BashLine", "connections"]

_SPECIAL = re.compile(r"[^\w%+,./:=@-]")
_SPECIAL_IN_QUOTES = re.compile(r"[$`\"\\]")


class BashLine(BashComplete):
    """Reads the line up to the cursor, instead of bash's own words; offers what comes after the last cut.

    bash puts into the line what it is given. A name may be anything that is a command there, so it is escaped as the
    quotes ask for in which the cursor is.
    """

    source_template = """\
%(complete_func)s() {
    local response completion type value
    local line=${COMP_LINE:0:COMP_POINT}
    response=$(env COMP_LINE="$line" COMP_AFTER="${COMP_LINE:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS= read -r completion; do
        type=${completion%%%%,*} value=${completion#*,}
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done <<< "$response"
    return 0
}
%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}
%(complete_func)s_setup;
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and what there is of that."""
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        begun = words.pop() if words and not line[-1].isspace() else ""
        return words[1:], begun

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line of the answer."""
        kept, quote = _end(os.environ.get("COMP_LINE", ""))
        value = item.value.removeprefix(kept)
        if quote == "'":
            value = value.replace("'", r"'\''")
        else:
            value = (_SPECIAL_IN_QUOTES if quote else _SPECIAL).sub(r"\\\g<0>", value)
        return f"{item.type},{value}"


def connections(ctx: click.Context) -> tuple[str, ...]:
    """Return the values of ``--connect``, wherever it is on the line: click knows only what precedes the cursor.

    fish passes no more than that.
    """
    found = list(ctx.params.get("connect") or ())
    after = iter(_after())
    for word in after:
        option, equals, value = word.partition("=")
        if option == "--connect" and (uri := value if equals else next(after, "")):
            found.append(uri)
    return tuple(found)


def _after() -> list[str]:
    """Return the words that follow the cursor; the first one may be the rest of the word at the cursor."""
    if "COMP_AFTER" in os.environ:
        return split_arg_string(os.environ["COMP_AFTER"])
    number = os.environ.get("COMP_CWORD", "")  # zsh passes the whole line, and the number of the word
    return split_arg_string(os.environ.get("COMP_WORDS", ""))[int(number) + 1 :] if number.isdecimal() else []


def _end(line: str) -> tuple[str, str]:
    """Return what bash keeps of the last word, up to its last cut, and the quote that is open at the end."""
    kept = word = quote = ""
    escaped = False
    for char in line:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote or char in "'\"":
            if quote and char != quote:
                word += char
            else:
                quote = "" if quote else char
        elif char.isspace():
            kept = word = ""
        else:
            word += char
            if char in ":=":
                kept = word
    return kept, quote
