"""From waves and phonemes to the feature store: mel, f0, durations, statistics (numpy only, no jax)."""
