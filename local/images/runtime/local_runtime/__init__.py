"""Stands for the inference runtimes where there is no GPU: each one's arguments, API and metrics over one llama.cpp.

What is the same for all is here: the engine, the queue before it, how a process stops. What a runtime is known by,
its options, its messages, its paths and metric names, is in the package of its name.
"""
