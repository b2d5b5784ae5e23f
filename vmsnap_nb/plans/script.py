"""A plan as a script for the shell of its machine, and as tasks for Ansible."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.plans.step import GuestStep, Step

if TYPE_CHECKING:
    from vmsnap_nb.plans.plan import Plan

__all__ = ["ansible_tasks", "shell_script"]

_ELSEWHERE, _CHANGED = 3, 4
"""Exit status on another machine than that of the plan, and where a file is not as it was."""


def shell_script(plan: Plan) -> str:
    """Return a script for ``/bin/sh`` that does what the plan says, on its own machine."""
    lines = ["#!/bin/sh", *(f"# {line}" for line in _title(plan)), "set -eu", ""]
    lines += (line for check in _checks(plan) for line in (check, ""))
    for number, step in enumerate(plan.steps, 1):
        commands = _on_its_machine(plan, step).commands
        if not commands:  # a journal entry, which a script has none of
            continue
        lines.append(f"printf '%s\\n' {shlex.quote(f'{number}. {_said(step)}')}")
        for command in commands:
            # A list in braces ends the script wherever it fails; `set -e` alone looks at the end of a list only.
            lines += ["{", command, "} || exit 1"]
        lines.append("")
    return "\n".join(lines)


def ansible_tasks(plan: Plan) -> str:
    """Return the same as a list of tasks in YAML."""
    tasks = [_task("check the machine and its files", check, changed=False) for check in _checks(plan)]
    for number, step in enumerate(plan.steps, 1):
        commands = _on_its_machine(plan, step).commands
        for place, command in enumerate(commands, 1):
            part = f" ({place}/{len(commands)})" if len(commands) > 1 else ""
            tasks.append(_task(f"{number}. {_said(step)}{part}", command))
    return "---\n" + "\n".join(tasks)


def _task(name: str, command: str, *, changed: bool = True) -> str:
    lines = [
        f"- name: {_scalar(name)}",
        "  ansible.builtin.shell:",
        f"    cmd: {_scalar('set -eu' + chr(10) + command)}",
        "    executable: /bin/sh",
    ]
    return "\n".join([*lines, *([] if changed else ["  changed_when: false"])]) + "\n"


def _scalar(text: str) -> str:
    """Return a string for YAML, of which JSON is a part; Ansible must not take it for a template."""
    templated = any(sign in text for sign in ("{{", "{%", "{#"))
    return ("!unsafe " if templated else "") + json.dumps(text)


def _title(plan: Plan) -> Iterator[str]:
    yield " ".join(str(plan.title).split())
    if plan.machine is not None:
        yield f"machine: {' '.join(plan.machine.name.split())}"  # as a remote libvirt gives it
    if plan.before.read_at is not None:
        yield f"planned: {plan.before.read_at:%Y-%m-%d %H:%M:%S} UTC"


def _said(step: Step) -> str:
    return " ".join(f"{step.action}: {step.image or step.what}".split())


# -- before anything is done -----------------------------------------------------------------------------------


def _checks(plan: Plan) -> Iterator[str]:
    if plan.machine is not None:
        yield _check_machine(plan.machine.name)
    for path in plan.creates:
        if path.startswith("/") and path not in plan.before.images:
            file = shlex.quote(path)
            yield _unless(f"[ ! -e {file} ] && [ ! -L {file} ]", path, "exists")
    for path, moment in _moments(plan):
        file = shlex.quote(path)
        yield _unless(f'[ "$(stat -L -c %Y -- {file})" = {moment} ]', path, "was modified after the plan was made")


def _unless(test: str, path: str, why: str) -> str:
    said = shlex.quote(f"{' '.join(path.split())}: {why}")
    return f"{test} || {{ printf '%s\\n' {said} >&2; exit {_CHANGED}; }}"


def _check_machine(name: str) -> str:
    short = shlex.quote(name.partition(".")[0])
    return (
        f'name=$(uname -n)\nif [ "${{name%%.*}}" != {short} ]; then\n'
        f'  echo "this is for the machine "{short}", and not for $name" >&2\n  exit {_ELSEWHERE}\nfi'
    )


def _moments(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield when the images were modified that it is about, as far as nothing writes to them all the time."""
    forest = plan.before
    for path in plan.about:
        image = forest.images.get(path)
        if image is None or image.mtime_ns is None or image.known_from != "file" or image.held == "write":
            continue
        if path.startswith("/") and not any(use.running for use in forest.known_users(path)):
            yield path, image.mtime_ns // 1_000_000_000


def _on_its_machine(plan: Plan, step: Step) -> Step:
    """Return the step with commands for the shell of the plan's machine: libvirt is there."""
    machine = plan.machine
    if machine is None or machine.here:
        return step
    anything: Any = step
    if isinstance(step, GuestStep):
        return replace(step, guest=replace(step.guest, uri=machine.own_uri))
    return replace(anything, uri=machine.own_uri) if getattr(anything, "uri", "") else step
