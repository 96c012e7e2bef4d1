"""Listening tests: stimuli, design, page, endpoint, analysis. MUSHRA as ITU-R BS.1534-3 has it, AB preference, MOS."""
