"""`tts-gen synthesize`: texts, recordings and edited prosody to files of speech."""
