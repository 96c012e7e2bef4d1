"""Classes of phones, for metrics by class ("class:vowel") and for telling vowels, which carry stress, from the rest."""

PAUSE = "pau"
CLASSES = ("vowel", "stop", "fricative", "nasal", "approximant", "affricate", "pause", "other")

_ARPABET = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW AX AXR IX UX",
    "stop": "P B T D K G DX Q",
    "fricative": "F V TH DH S Z SH ZH HH",
    "nasal": "M N NG",
    "approximant": "L R W Y",
    "affricate": "CH JH",
    "pause": PAUSE,
}
_IPA = {  # and the vowels of SAMPA that are no name in ARPAbet
    "vowel": "aeiouyæøœɐɑɒɔəɘɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏᵻAEIOU@{}&1236789",
    "stop": "pbtdkgɡcɟqɢʔʈɖɾ",
    "fricative": "fvθðszʃʒxɣhɦçʝχʁħʕʂʐɸβɕʑɬɮ",
    "nasal": "mnŋɲɳɴɱ",
    "approximant": "lrɹwjɫɻɥʋɭʎʟɰ",
}
_AFFRICATES = ("tʃ", "dʒ", "ts", "dz", "tɕ", "dʑ", "t͡", "d͡")
_BY_SYMBOL = {symbol: name for name, symbols in _ARPABET.items() for symbol in symbols.split()}
_BY_CHARACTER = {character: name for name, characters in _IPA.items() for character in characters}

ARPABET_VOWELS = frozenset(_ARPABET["vowel"].split())


def phone_class(symbol: str) -> str:
    """One of CLASSES for a phone without stress: ARPAbet by name, IPA and SAMPA by its first characters.

    ARPAbet's names of two letters are known in lower case too, as Festival writes them; what is in no table is "other".
    """
    name = symbol.upper() if len(symbol) == 2 else symbol
    if name in _BY_SYMBOL:
        return _BY_SYMBOL[name]
    if symbol.startswith(_AFFRICATES):
        return "affricate"
    return _BY_CHARACTER.get(symbol[:1], "other")
