"""Checks that need a GPU: run by hand on a machine that has one, never by `make test`."""
