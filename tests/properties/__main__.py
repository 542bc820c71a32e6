"""`make fuzz`: every subject on many drawn texts, and its time on texts of every unit.

Prints what was tried for each subject; the exit code is 1 where one raised what it does not declare
or took more than its share of time.
"""

from __future__ import annotations

import argparse
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.properties.catalogue import SUBJECTS, Subject
from tests.properties.test_texts import read, too_slow
from tests.properties.texts import UNITS, nasty


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.properties", description=__doc__)
    parser.add_argument("--texts", type=int, default=1000, help="pairs of texts a subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="subjects whose name holds this")
    options = parser.parse_args()
    chosen = {name: s for name, s in SUBJECTS.items() if options.only in name}
    raised, slow, tried = 0, 0, 0
    for name, subject in chosen.items():
        started = time.monotonic()
        count, error = tried_texts(subject, options.texts, options.seed)
        units = [u for u in UNITS if subject.linear and too_slow(subject, u)]
        tried, raised, slow = tried + count, raised + bool(error), slow + len(units)
        told = [error] if error else []
        told += [f"slow: {', '.join(map(ascii, units))}"] if units else []
        print(f"{name:<48} {count:>6} texts {time.monotonic() - started:6.1f} s  {'; '.join(told)}",
              flush=True)  # fmt: skip
    print(f"{tried:,} pairs of texts, exceptions {raised}; {len(UNITS)} units, too slow {slow}")
    return 1 if raised or slow else 0


def tried_texts(subject: Subject, most: int, start: int) -> tuple[int, str]:
    """How many pairs of texts were read, and the first error that is not declared."""
    count = 0

    @seed(start)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(text=nasty(), other=nasty())
    def each(text: str, other: str) -> None:
        nonlocal count
        count += 1
        read(subject, text, other)

    try:
        each()
    except Exception as error:
        return count, f"{type(error).__name__}: {str(error)[:200]}"
    return count, ""


if __name__ == "__main__":
    sys.exit(main())
