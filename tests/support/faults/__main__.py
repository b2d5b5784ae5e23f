"""`make faults`: inject faults, print runs and losses by verb and fault, and how to repeat a loss."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from support import ROOT
from support.faults.play import COUNTED, FAULTS, Outcome, Run, Worker, chosen, play_all
from support.faults.scenes import VERBS

PAGES = (ROOT / "docs" / "crash-safety.md", ROOT / "docs" / "zh" / "crash-safety.md")


def table(outcomes: Iterable[Outcome]) -> str:
    """Return runs by verb and fault, as a table in Markdown; losses stand after a slash."""
    runs: Counter[tuple[str, str]] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        kind = outcome.run.verb, outcome.run.strike.fault
        runs[kind] += 1
        losses[kind] += bool(outcome.loss)

    def cell(kinds: list[tuple[str, str]]) -> str:
        number, lost = sum(runs[kind] for kind in kinds), sum(losses[kind] for kind in kinds)
        return "" if not number else f"{number} / **{lost}**" if lost else str(number)

    lines = [["verb", *FAULTS, "all"], ["---"] * (len(FAULTS) + 2)]
    lines += [
        [verb, *(cell([(verb, fault)]) for fault in FAULTS), cell([(verb, fault) for fault in FAULTS])]
        for verb in VERBS
        if any(runs[verb, fault] for fault in FAULTS)
    ]
    every = [(verb, fault) for verb in VERBS for fault in FAULTS]
    lines.append(["all", *(cell([(verb, fault) for verb in VERBS]) for fault in FAULTS), cell(every)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(logs: Iterable[Path]) -> list[Outcome]:
    """Return the runs of logs of this program; what was repeated later counts."""
    outcomes: dict[str, Outcome] = {}
    last = None
    for line in (line for log in logs for line in log.read_text().splitlines()):
        if played := re.match(r" *\d+ (.* \| .*@.*?)( \(too late\))?$", line):
            last = Outcome(Run.of(played[1]), hit="" if played[2] else "?")
            outcomes[played[1]] = last
        elif last is not None and line.startswith("LOST: "):
            last.loss = line
    return list(outcomes.values())


def write_down(logs: list[Path]) -> None:
    """Put the table of logs into the docs of both languages, in place of the one there."""
    outcomes = read(logs)
    for page in PAGES:
        text = page.read_text()
        start, end = text.index("| verb |"), text.rindex("| all |")
        end = text.find("\n", end)
        page.write_text(text[:start] + table(outcomes) + (text[end:] if end > 0 else "\n"))
    late = sum(not outcome.hit for outcome in outcomes)
    losses = [outcome.run for outcome in outcomes if outcome.loss]
    print(f"{len(outcomes)} runs, {late} of them too late, losses: {len(losses)}", *losses, sep="\n")


def count() -> None:
    """Write down how many calls each verb makes, and how long it takes."""
    worker = Worker(anew=True)
    try:
        found = {verb: worker.count(verb) for verb in VERBS}
    finally:
        worker.close()
    written = {
        verb: {
            "milliseconds": calls.milliseconds,
            "calls": {" ".join(key): n for key, n in sorted(calls.numbers.items())},
        }
        for verb, calls in found.items()
    }
    COUNTED.write_text(json.dumps(written, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--verb", help="only verbs with this in their name")
    parser.add_argument("--fault", help="only this fault")
    parser.add_argument("--only", action="append", help="repeat this run, as it was printed")
    parser.add_argument("--count", action="store_true", help="run each verb without a fault, and write down its calls")
    parser.add_argument("--docs", nargs="+", type=Path, help="put the sum of these logs into docs/crash-safety.md")
    options = parser.parse_args()
    if options.docs:
        write_down(options.docs)
        return 0
    if options.count:
        count()
        return 0
    began = time.monotonic()
    outcomes = []
    if options.only:
        worker = Worker()
        try:
            for text in options.only:
                outcome = worker.play(Run.of(text))
                outcomes.append(outcome)
                late = "" if outcome.hit else " (too late)"
                notes = "\n  ".join(outcome.notes)
                print(f"{len(outcomes):5} {outcome.run}{late}\n  hit: {outcome.hit}\n  {notes}", flush=True)
                print(worker.injector.calls)
                if outcome.loss:
                    print(f"LOST: {outcome.loss}", flush=True)
        finally:
            worker.close()
        return any(outcome.loss for outcome in outcomes)
    wanted = chosen(options.runs, options.seed)
    if options.verb or options.fault:
        every = chosen(100 * options.runs, options.seed)
        wanted = [one for one in every if (options.verb or "") in one[0] and one[1] == (options.fault or one[1])][
            : options.runs
        ]
    for outcome in play_all(wanted, options.workers):
        outcomes.append(outcome)
        late = "" if outcome.hit else " (too late)"
        print(f"{len(outcomes):5} {outcome.run}{late}", flush=True)
        if outcome.loss:
            print(f"LOST: {outcome.loss}\n  hit: {outcome.hit}\n  " + "\n  ".join(outcome.notes), flush=True)
    lost = [outcome for outcome in outcomes if outcome.loss]
    print(table(outcomes))
    late = sum(not outcome.hit for outcome in outcomes)
    print(f"{len(outcomes)} runs with the seed {options.seed} in {time.monotonic() - began:.0f} s, losses: {len(lost)}")
    print(f"in {late} of them the fault came too late")
    for outcome in lost:
        print(f"to repeat: make faults ONLY='{outcome.run}'")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
