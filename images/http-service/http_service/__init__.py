"""What the LLM gateway and the embedder have in common as services: requests, logs, errors, and how they stop."""
