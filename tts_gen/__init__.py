"""Prosody and speech by regression, normalizing flows and diffusion, compared fairly (JAX/Flax)."""
