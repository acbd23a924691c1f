"""Paired measurements: contenders take turns, so that a busy moment of the machine hits all."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Pairs:
    """The values of every round, by contender."""

    values: dict = field(default_factory=dict)

    def median(self, name):
        """The median of one contender."""
        return statistics.median(self.values[name])

    def ratios(self, name, other):
        """The ratio of two contenders in every round."""
        return [a / b for a, b in zip(self.values[name], self.values[other])]

    def ratio(self, name, other):
        """The median of the ratios of every round."""
        return statistics.median(self.ratios(name, other))

    def spread(self, name, other):
        """Lowest and highest ratio of a round."""
        ratios = self.ratios(name, other)
        return min(ratios), max(ratios)


def interleave(contenders, rounds, progress):
    """Measures name → callable in turn, `rounds` times; every second round runs backwards, so
    that nobody always comes first."""
    pairs = Pairs({name: [] for name in contenders})
    for number in range(rounds):
        names = list(contenders)
        for name in reversed(names) if number % 2 else names:
            value = contenders[name]()
            pairs.values[name].append(value)
            progress(f"  round {number + 1}/{rounds} {name}: {value:,.1f}")
    return pairs
