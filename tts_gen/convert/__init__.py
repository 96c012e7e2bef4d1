"""Checkpoints of other implementations, read without them."""
