"""Benchmarks: what the hot paths cost, against what others charge for the same work.

Each ``bench_*.py`` measures one thing, asserts that every contender got the right answer, and prints rows of one table;
``python -m benchmarks`` runs them all. Figures are ratios within one run (contenders take turns, medians count),
because absolute times move with the machine. May import everything; nothing imports it.
"""
