"""The error that ends the loader with a message."""


class LoadError(Exception):
    """A model that can't be loaded: one line for the pod's log that says why and what to do."""
