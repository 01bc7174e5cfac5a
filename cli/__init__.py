"""`llm-serving`: what fits where, what a stack needs and costs, and which checks there are, on a command line.

Each command imports what it uses when it runs: `llm-serving fit` answers in a fraction of a second, without Pulumi.
"""
