"""`tts-gen studio`: a page on which one types a sentence, hears systems side by side, and draws prosody."""
