"""What fits where: sizes, limits and prices of models, GPUs, runtimes and drivers, as pure computation.

Nothing here imports Pulumi, talks to a network (but `cloud`) or reads a stack file.
"""
