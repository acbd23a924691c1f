"""The benchmark of Coffer: `tests/bench/run --help`."""
