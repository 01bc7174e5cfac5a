"""Brings the whole environment up on one machine, with no cloud account.

Everything here knows the Pulumi program only as a stack to bring up. `toolchain` gets the programs, `cloud` stands
for AWS, `cluster` runs real Kubernetes nodes, `plugins` serves Pulumi's providers, `cli` is what the Makefile calls.
"""
