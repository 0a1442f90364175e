"""The benchmarks: each runs its baseline beside it, in one run, and compares ratios."""
