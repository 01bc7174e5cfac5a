"""`llm-serving`: what fits where, what a stack needs and costs, which checks there are, and the model bucket.

Each command imports what it uses when it runs: `llm-serving fit` answers in a fraction of a second, without Pulumi.
"""
