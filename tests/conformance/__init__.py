"""Coverage of the requirements of the RFCs.

`requirements.csv` lists the requirements of the RFCs with numbers. A test covers a requirement by naming its number.
`uncovered.csv` lists all other requirements with reasons. `python -m tests.conformance` prints the counts.
"""
