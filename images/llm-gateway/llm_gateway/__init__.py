"""The LLM gateway: one address for every model, in front of the inference services.

A request is routed by its model's name, answered from the response cache where it may be, and otherwise passed on
to the model's service as it came, streaming included.
"""

__version__ = "0.1.0"
