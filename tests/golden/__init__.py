"""Golden files: what errors say, and every value of every experiment.

`python -m tests.golden` writes them afresh; review the difference before it is committed.
"""
