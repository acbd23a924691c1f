"""Paired measurements: contenders take turns, so that a busy moment of the machine hits all."""

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

LOOK_SECONDS = 0.25
CALM_SHARE = 0.85


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


def processor_times():
    """Jiffies of all processors so far: idle, all."""
    numbers = [int(text) for text in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return numbers[3] + numbers[4], sum(numbers)


class Calm:
    """Waits before a measurement until little else runs on the machine, and remembers how calm it
    was. What is measured is idle between the measurements."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.shares = []

    def wait(self):
        """Returns when the processors were mostly idle for a moment, or the patience is over."""
        end = time.monotonic() + self.seconds
        while True:
            idle, everything = processor_times()
            time.sleep(LOOK_SECONDS)
            idle_now, everything_now = processor_times()
            share = (idle_now - idle) / max(1, everything_now - everything)
            if share >= CALM_SHARE or time.monotonic() >= end:
                self.shares.append(share)
                return

    def median(self):
        """The median share of idle time found before the measurements."""
        return statistics.median(self.shares) if self.shares else 1.0


def interleave(contenders, rounds, calm, progress):
    """Measures name → callable in turn, `rounds` times; every second round runs backwards, so
    that nobody always comes first."""
    pairs = Pairs({name: [] for name in contenders})
    for number in range(rounds):
        names = list(contenders)
        for name in reversed(names) if number % 2 else names:
            calm.wait()
            value = contenders[name]()
            pairs.values[name].append(value)
            progress(f"  round {number + 1}/{rounds} {name}: {value:,.1f}")
    return pairs
