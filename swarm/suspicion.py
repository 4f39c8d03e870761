"""How long a suspect has to speak up, and how far this member should doubt itself before it doubts others.

Both are Lifeguard's (Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure
Detection", 2018) with our own figures: a dead edge has left every view about 5 s after its death.
"""

import math

CONFIRMATIONS = 3  # others who suspect the same: with so many, a suspect has the least time
LEAST_S, MOST_S = 1.5, 3.0  # from the first suspicion to the verdict
WORST = 8  # awareness: its worst score


def suspicion_s(others: int, confirmations: int) -> float:
    """`others`: living members beside the suspect; `confirmations`: how many of them agree with the first.

    >>> [round(suspicion_s(100, count), 2) for count in range(4)]
    [3.0, 2.25, 1.81, 1.5]
    """
    enough = min(CONFIRMATIONS, others - 1)
    if enough < 1 or confirmations >= enough:
        return LEAST_S  # nobody else could confirm it
    return MOST_S - (MOST_S - LEAST_S) * math.log(confirmations + 1) / math.log(enough + 1)


class Awareness:
    """0: all is well with this member itself. What fails here though it should not is a sign that we are slow or cut
    off, so that our time-outs stretch, and our probes grow rarer, by `factor`."""

    def __init__(self) -> None:
        self.score = 0

    def __repr__(self) -> str:
        return f"<Awareness {self.score}>"

    @property
    def factor(self) -> int:
        return self.score + 1

    def worsen(self, by: int = 1) -> None:
        self.score = min(WORST, self.score + by)

    def improve(self) -> None:
        self.score = max(0, self.score - 1)
