"""``plan VERB`` and ``run VERB``: the plan of a verb, shown, and run if that is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vmsnap_nb.command.given import Given, passed
from vmsnap_nb.command.grammar import COMMON, READONLY, Command, Group
from vmsnap_nb.command.output import Output, facts_of_plan, facts_of_report
from vmsnap_nb.command.verbs import VERBS, Verb
from vmsnap_nb.command.where import Where, opened
from vmsnap_nb.errors import InvalidRequestError, NothingToDoError, VmsnapError
from vmsnap_nb.words.message import N_, Message, clauses, listed, t

if TYPE_CHECKING:
    from vmsnap_nb.live.plan import LivePlan
    from vmsnap_nb.live.report import LiveReport

__all__ = ["REFUSED", "finish", "plan_group", "run_group"]

REFUSED = NOT_RUN = 1
"""Exit status of a plan that is refused, or not run."""

_PLAN = (
    Given(
        name="script",
        what=N_("print a shell script that carries out the same plan on the machine where the images are"),
        kind="flag",
    ),
    Given(name="ansible", what=N_("print Ansible tasks that carry out the same plan"), kind="flag"),
    Given(
        name="waive",
        value="NAME",
        what=N_("with --script or --ansible: override the refusal with this name, if it can be waived"),
        many=True,
    ),
    READONLY,
)
_RUN = (
    Given(name="yes", what=N_("run the plan without asking"), kind="flag"),
    Given(name="waive", value="NAME", what=N_("override the refusal with this name, if it can be waived"), many=True),
)


def plan_group() -> Group:
    """Return ``vmsnap-nb plan``."""
    group = Group("plan", N_("Show what a verb would do, without changing anything"), notes=(_PLAN_STATUS,))
    for verb in VERBS:
        group.add_command(_command(verb, partial(_plan, verb), _PLAN))
    return group


def run_group() -> Group:
    """Return ``vmsnap-nb run``."""
    group = Group("run", N_("Show what a verb would do, and do it after confirmation"), notes=(_RUN_STATUS,))
    for verb in VERBS:
        group.add_command(_command(verb, partial(_run, verb), _RUN))
    return group


_PLAN_STATUS = N_(
    "The exit status is 0 if the plan can run or there is nothing to do, 1 if it is refused, and 2 after an error."
)
_RUN_STATUS = N_(
    "The exit status is 0 if the plan runs as predicted or there is nothing to do, 1 if it is refused, is not "
    "confirmed or does not run as predicted, and 2 after an error."
)


def finish() -> Command:
    """Return ``vmsnap-nb finish``, which is ``run finish``."""
    verb = next(verb for verb in VERBS if verb.name == "finish")
    return _command(verb, partial(_run, verb), _RUN)


def _command(verb: Verb, call: Any, more: tuple[Given, ...]) -> Command:
    return Command(verb.name, verb.what, call, givens=(*verb.givens, *more, *COMMON), examples=verb.examples)


def _plan(verb: Verb, values: dict[str, Any]) -> int:
    output = Output(f"plan {verb.name}", as_json=values["json"])
    with opened(values) as where:
        plans, nothing = _planned(verb, where, values, output)
    if values["script"] or values["ansible"]:
        for plan in plans:
            made = plan.script if values["script"] else plan.to_ansible
            output.text_only(made(waive=values["waive"]))
        if nothing:
            output.remark(_nothing_to_do(nothing))
        return 0
    if nothing:
        _say_nothing(output, nothing, {"plans": []} if verb.several else {})
        return 0
    if output.as_json:
        _records_of(output, verb, plans)
    for plan in plans:
        _show(output, plan)
    return REFUSED if any(plan.refused for plan in plans) else 0


def _planned(
    verb: Verb, where: Where, values: dict[str, Any], output: Output
) -> tuple[list[LivePlan], Message | str | None]:
    """Return the plans, or none and why there is nothing to do: then the verb has succeeded."""
    try:
        plans = list(_plans(verb, where, values, output))
    except NothingToDoError as error:
        return [], error.reason
    return plans, None if plans else t("there are no unfinished operations")


def _nothing_to_do(why: Message | str) -> Message:
    return t("Nothing to do: {why}.", why=why)


def _say_nothing(output: Output, why: Message | str, facts: dict[str, Any]) -> None:
    if output.as_json:
        output.records((), {**facts, "nothing_to_do": str(why)})
    output.line(_nothing_to_do(why))


def _records_of(output: Output, verb: Verb, plans: list[LivePlan]) -> None:
    from vmsnap_nb.views.records import records_of
    from vmsnap_nb.views.tables import table_of

    if not verb.several:
        output.records(records_of(table_of(plans[0])), facts_of_plan(plans[0]))
        return
    rows = [{"plan": number, **row} for number, one in enumerate(plans, 1) for row in records_of(table_of(one))]
    output.records(rows, {"plans": [facts_of_plan(plan) for plan in plans]})


def _show(output: Output, plan: LivePlan) -> None:
    output.line(output.text(plan))
    output.line()
    if plan.refused:
        output.line(label=t("This plan is refused."), colour="red")


def _run(verb: Verb, values: dict[str, Any]) -> int:
    output = Output(f"run {verb.name}", as_json=values["json"])
    if not values["yes"] and (output.as_json or not sys.stdin.isatty()):
        raise InvalidRequestError(
            t("run {verb}", verb=verb.name),
            why=t("confirmation requires a terminal, and is not possible with --json"),
            next_step=t(
                "review the plan with vmsnap-nb plan {verb} …, then repeat this command with --yes", verb=verb.name
            ),
        )
    reports: list[LiveReport] = []
    try:
        status, nothing = _run_all(verb, values, output, reports)
    except KeyboardInterrupt:
        _records_of_reports(output, verb, reports)
        raise
    except VmsnapError as error:  # what was done before it belongs to the same JSON
        error.reports = tuple(reports)
        raise
    if nothing:
        _say_nothing(output, nothing, {"reports": []} if verb.several else {})
    else:
        _records_of_reports(output, verb, reports)
    return status


def _run_all(
    verb: Verb, values: dict[str, Any], output: Output, reports: list[LiveReport]
) -> tuple[int, Message | str | None]:
    status = 0
    with opened(values) as where:
        plans, nothing = _planned(verb, where, values, output)
        while plans:
            status = max(status, _run_one(output, plans[0], values, reports))
            # What is left is planned again: one that was finished may have been what the others waited for.
            again = list(_plans(verb, where, values, output)) if verb.several and not status else []
            plans = again if len(again) < len(plans) else []
    return status, nothing


def _records_of_reports(output: Output, verb: Verb, reports: list[LiveReport]) -> None:
    from vmsnap_nb.views.records import records_of
    from vmsnap_nb.views.tables import table_of

    if not output.as_json:
        return
    if not verb.several:
        for report in reports:
            output.records(records_of(table_of(report)), facts_of_report(report))
        return
    rows = [{"plan": number, **row} for number, one in enumerate(reports, 1) for row in records_of(table_of(one))]
    output.records(rows, {"reports": [facts_of_report(report) for report in reports]})


def _run_one(output: Output, plan: LivePlan, values: dict[str, Any], reports: list[LiveReport]) -> int:
    _show(output, plan)
    plan.check(values["waive"])
    if not values["yes"] and not click.confirm(t("Run this plan?"), default=False):
        output.line(t("Nothing was changed."))
        return NOT_RUN
    report = plan.run(waive=values["waive"], progress=sys.stderr.isatty())
    reports.append(report)
    output.line(output.text(report))
    output.line()
    if report.cancelled:
        raise KeyboardInterrupt
    good = report.as_predicted
    said = (
        t("Done, as predicted.") if good else t("Done, but not as predicted: {what}", what=clauses(report.differences))
    )
    output.line(label=said, colour="green" if good else "yellow")
    return 0 if good else NOT_RUN


# -- of what -------------------------------------------------------------------------------------------------------


def _plans(verb: Verb, where: Where, values: dict[str, Any], output: Output) -> Iterator[LivePlan]:
    of_guest = values.get("guest")
    _check(verb, values)
    givens = tuple(given for given in verb.givens if given.name not in ("folder", "guest"))
    arguments = passed(givens, values, guest=bool(of_guest))
    if of_guest:
        made = getattr(where.guest(of_guest), verb.guest)(**arguments)
    else:
        # An overlay can do no harm to a guest, and its base may be one that no guest has.
        why = where.take_local() if verb.name != "overlay" else None
        if why:
            output.remark(
                t(
                    "note: cannot determine which guests use these images: {why}. To select a libvirt connection, "
                    "use --connect URI",
                    why=why,
                )
            )
        made = _of_images(verb, where, values, arguments)
    yield from made if verb.several else (made,)


def _of_images(verb: Verb, where: Where, values: dict[str, Any], arguments: dict[str, Any]) -> Any:
    from vmsnap_nb.live.forest import create_overlay

    if verb.name == "overlay":
        if not where.has_libvirt and len(arguments["path"]) == 1:
            return create_overlay(os.path.abspath(arguments.pop("path")[0]), **arguments)
        if where.files_are_here:
            arguments["backing"] = _absolute(arguments["backing"])
            arguments["path"] = [os.path.abspath(path) for path in arguments["path"]]
        return where.forest(_folders(where.files_are_here, values, arguments["backing"])).overlay(**arguments)
    for name in ("top", "image", "base"):
        if name in arguments and where.files_are_here:
            arguments[name] = _absolute(arguments[name])
    image = arguments[verb.main.name] if verb.main else None
    if where.is_fleet and verb.main and image is not None:
        host, arguments[verb.main.name] = where.of_image(image)
        forest = host.survey(*_folders(host.files_are_here, values, arguments[verb.main.name]))
    else:
        forest = where.forest(_folders(where.files_are_here, values, image))
    return getattr(forest, verb.images)(**arguments)


def _absolute(image: str) -> str:
    """Return the path of an image of the current folder; a name that is none stays as it is."""
    return os.path.abspath(image) if os.path.lexists(image) else image


def _folders(here: bool, values: dict[str, Any], image: str | None) -> tuple[str, ...]:
    """Return the folders to read: that of the image if it is of this machine, and those that are named."""
    beside = (os.path.dirname(image),) if here and image and os.path.lexists(image) and "/" in image else ()
    return tuple(dict.fromkeys((*beside, *(values.get("folder") or ()))))


def _check(verb: Verb, values: dict[str, Any]) -> None:
    """Check that what was given belongs together."""
    if not (verb.images and verb.guest):
        if verb.main is not None and not values.get(verb.main.name):
            raise _missing(verb, verb.main.place, t("pass the image"))
        return
    of_guest = bool(values.get("guest"))
    wrong = [
        given.usage
        for given in verb.givens
        if given.only and (given.only == "guest") != of_guest and given.is_given(values.get(given.name))
    ]
    if wrong:
        raise InvalidRequestError(
            t("{verb} with {options}", verb=verb.name, options=listed(wrong)),
            why=t("this is not possible for a guest") if of_guest else t("this is possible only for a guest"),
            next_step=t("run vmsnap-nb plan {verb} --help", verb=verb.name),
        )
    if not of_guest and verb.main is not None and not values.get(verb.main.name):
        raise _missing(verb, "IMAGE", t("pass the image, or add --guest NAME"))


def _missing(verb: Verb, place: str, next_step: Any) -> InvalidRequestError:
    return InvalidRequestError(
        t("plan {verb}", verb=verb.name), why=t("{name} is missing", name=place), next_step=next_step
    )
