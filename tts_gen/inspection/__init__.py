"""`tts-gen inspect`: what a feature store holds, and which of its utterances look wrong."""
