"""Symbol tables of the reference implementations: a symbol's position is its row of the text encoder's embedding.

Sources, all MIT licence: text/symbols.py and text/cmudict.py of keithito/tacotron, as jaywalnut310/glow-tts and
huawei-noah/Speech-Backbones (Grad-TTS) hold them; matcha/text/symbols.py of shivammehta25/Matcha-TTS.
"""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
_ARPABET = sorted([*_CONSONANTS, *(vowel + stress for vowel in _VOWELS for stress in ("", "0", "1", "2"))])

ARPABET = ("_", "-", *"!'(),.:;? ", *_LETTERS, *(f"@{phone}" for phone in _ARPABET))
"""Glow-TTS and Grad-TTS: characters, and ARPAbet's phones with "@" before them; the pad "_" is first"""

IPA = (
    "_",
    *';:,.!?¡¿—…"«»“” ',
    *_LETTERS,
    *"ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃ",
    *"ˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'̩'ᵻ",
)
"""Matcha-TTS; "'" stands there twice, and the second is the one that counts"""
