"""Which requirements of the RFCs the tests cover.

`requirements.csv` has the RFCs as numbered requirements. A test covers one by naming its number. What no test covers is
in `uncovered.csv`, each with the reason. `python -m tests.conformance` prints the counts.
"""
