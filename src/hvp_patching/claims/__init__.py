"""The claims ledger: each statement of the paper, the numbers that answer it, and a verdict.

Which numbers answer a claim is data (`data/claims`); `comparisons` turns numbers into outcomes,
`verdicts` outcomes into words. Numbers are read from results and files, never from here.
"""
