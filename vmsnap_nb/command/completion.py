"""Completion in bash of words that it cuts at ``:`` and ``=``, as in a URI or in NAME=URI."""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, split_arg_string

__all__ = ["BashLine"]


class BashLine(BashComplete):
    """Reads the line up to the cursor, instead of bash's own words; offers what comes after the last cut."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]}
    local before=${word%%"${word##*[:=]}"}
    response=$(env COMP_LINE="$line" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$before"}")
        fi
    done
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
