"""What `import vmsnap_nb` adds to bare Python, as pairs of runs: one without, one with. Goal: at most 20 ms."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

GOAL_MS = 20.0


def run_ms(statement: str) -> float:
    """Milliseconds from start to end of a fresh interpreter that executes the statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", statement], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> int:
    """Measure, print, and fail if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    for statement in ("pass", "import vmsnap_nb"):
        run_ms(statement)  # fills the caches of bytecode and files
    # The order within a pair alternates, so that neither side always goes first.
    bare, added = [], []
    for i in range(pairs):
        first, second = ("pass", "import vmsnap_nb")[:: 1 if i % 2 else -1]
        times = {first: run_ms(first), second: run_ms(second)}
        bare.append(times["pass"])
        added.append(times["import vmsnap_nb"] - times["pass"])
    median = statistics.median(added)
    low, *_, high = statistics.quantiles(added, n=10)
    print(f"bare Python           {statistics.median(bare):6.1f} ms (median of {pairs})")
    print(f"import vmsnap_nb adds {median:6.1f} ms (median of {pairs} pairs; 10 % to 90 %: {low:.1f} to {high:.1f})")
    print(f"goal                  {GOAL_MS:6.1f} ms: {'reached' if median <= GOAL_MS else 'MISSED'}")
    return 0 if median <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
