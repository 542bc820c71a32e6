"""How far the judges of a panel agree beyond chance, on the answers of one benchmark.

Two figures that treat a judge which cannot tell differently. Fleiss' kappa (1971) needs one vote of
every judge on every answer, so there `cannot_tell` is a verdict like the other two: judges who fail
on the same answers agree. Krippendorff's alpha (nominal) takes missing values, so there it is
missing: alpha speaks of the verdicts that were given. At 1 all agree, at 0 no more than judges who
vote at random with the panel's own frequencies would; both are None where that is 0 / 0: a single
judge, no answer with two verdicts, or one and the same verdict everywhere.

Array names end in a legend: N answers, J judges, C categories.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from raft_core.data.records import Vote

if TYPE_CHECKING:
    import numpy as np

VERDICTS = ("correct", "incorrect", "cannot_tell")


def panel_agreement(votes_NJ: Sequence[Sequence[Vote]]) -> dict[str, Any]:
    """Each judge's share of every verdict, kappa, alpha, and the share of unanimous answers.

    Raises:
        ValueError: there is no answer, or the answers differ in their number of votes.
    """
    verdicts_NJ = [[vote.verdict for vote in votes] for votes in votes_NJ]
    told_NJ = [[None if v == "cannot_tell" else v for v in row] for row in verdicts_NJ]
    kappa = fleiss_kappa(verdicts_NJ)
    judges = [vote.judge for vote in votes_NJ[0]]
    return {
        "judges": [
            {"judge": judge} | {verdict: cast.count(verdict) / len(cast) for verdict in VERDICTS}
            for judge, cast in zip(judges, map(list, zip(*verdicts_NJ, strict=True)), strict=True)
        ],
        "kappa": kappa,
        "alpha": krippendorff_alpha(told_NJ),
        "unanimous": sum(len(set(row)) == 1 for row in verdicts_NJ) / len(verdicts_NJ),
    }


def fleiss_kappa(ratings_NJ: Sequence[Sequence[Hashable]]) -> float | None:
    """(P - Pe) / (1 - Pe): agreeing pairs of judges, against those by chance.

    Raises:
        ValueError: there is no answer, or the answers differ in their number of ratings.
    """
    judges = {len(row) for row in ratings_NJ}
    if len(judges) != 1:
        raise ValueError("kappa needs answers, and the same number of ratings on each")
    count = judges.pop()
    if count < 2:
        return None
    counts_NC = _counts(ratings_NJ)
    share_C = counts_NC.sum(axis=0) / counts_NC.sum()
    by_chance = float((share_C**2).sum())
    agreeing_N = ((counts_NC**2).sum(axis=1) - count) / (count * (count - 1))
    if (counts_NC.sum(axis=0) > 0).sum() < 2:
        return None
    return (float(agreeing_N.mean()) - by_chance) / (1 - by_chance)


def krippendorff_alpha(ratings_NJ: Sequence[Sequence[Hashable | None]]) -> float | None:
    """1 - Do / De for nominal values: disagreeing pairs within answers, against pairs at large.

    None is a missing value. An answer with a single value has nothing to be compared with and
    counts nowhere (Krippendorff 2011, Computing Krippendorff's alpha-reliability).
    """
    given = [[value for value in row if value is not None] for row in ratings_NJ]
    pairable = [values for values in given if len(values) >= 2]
    if not pairable:
        return None
    counts_NC = _counts(pairable)
    values_N, total_C = counts_NC.sum(axis=1), counts_NC.sum(axis=0)
    total = float(total_C.sum())
    # Ordered pairs of different values, each answer's weighted by 1 / (its values - 1).
    observed = ((values_N**2 - (counts_NC**2).sum(axis=1)) / (values_N - 1)).sum() / total
    expected = (total**2 - (total_C**2).sum()) / (total * (total - 1))
    return None if expected == 0 else float(1 - observed / expected)


def _counts(ratings: Sequence[Sequence[Hashable]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How often each category was given to each answer, NC."""
    import numpy as np

    categories = list(dict.fromkeys(value for row in ratings for value in row))
    counts_NC = np.zeros((len(ratings), len(categories)))
    for counts_C, row in zip(counts_NC, ratings, strict=True):
        for value in row:
            counts_C[categories.index(value)] += 1
    return counts_NC
