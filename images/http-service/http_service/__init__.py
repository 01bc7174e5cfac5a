"""What the LLM gateway and the embedder have in common as services: their logs, their errors, and how they stop."""
