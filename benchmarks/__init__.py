"""The benchmark: this project and its peers, side by side, each job checked to have run exactly once.

``python -m benchmarks`` from the repository's root, or ``make bench``. See docs/explanation/performance.md.
"""
