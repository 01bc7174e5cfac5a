"""Fetches the weights of a model from the model bucket: waits for its manifest, downloads, verifies, resumes."""
