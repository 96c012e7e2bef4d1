"""English text to the words that are spoken: "Dr. Lee paid $5" -> doctor lee paid five dollars.

Numbers are read by num2words, accented Latin letters are transliterated by anyascii; the rest is a list of rules,
applied in order (`_RULES`). A letter to be named is written "_u" between the rules and "u." in the result.
"""

import re
import unicodedata
from collections.abc import Callable

from tts_gen.config import UserError
from tts_gen.text.pronounce import in_dictionary, pronounce

PUNCTUATION = ("", ",", ".", "?", "!", ":", ";")

_STRENGTH = {mark: i for i, mark in enumerate(("", ",", ":", ";", ".", "!", "?"))}

# A typographic character and what stands for it; "-" between spaces and "," are pauses.
_FOLD = str.maketrans(
    {"‘": "'", "’": "'", "ʼ": "'", "`": "'", "′": "'", "–": " - ", "—": " - ", "―": " - ", "−": "-", "…": ". ",
     "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "°": " degrees ", "×": " times ", "÷": " divided by ", "™": " ",
     "®": " ", "©": " copyright "}
)  # fmt: skip
_SYMBOLS = {"&": "and", "+": "plus", "=": "equals", "@": "at", "%": "percent", "<": "less than", ">": "greater than",
            "~": "about", "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "#": "pound"}  # fmt: skip
_CURRENCIES = {"$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
               "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen")}  # fmt: skip
_FRACTIONS = {"1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters"}
_UNITS = {"ft": "foot", "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "mg": "milligram",
          "lb": "pound", "lbs": "pound", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz", "kb": "kilobyte",
          "mb": "megabyte", "gb": "gigabyte", "ms": "millisecond", "sec": "second", "min": "minute", "hr": "hour",
          "hrs": "hour", "oz": "ounce", "mph": "mile per hour"}  # fmt: skip
_IRREGULAR_PLURALS = {"foot": "feet", "hertz": "hertz", "kilohertz": "kilohertz", "megahertz": "megahertz",
                      "mile per hour": "miles per hour"}  # fmt: skip
# Abbreviations with a full stop. A title is followed by a name, so its full stop never ends the sentence.
_TITLES = {"Mr": "mister", "Mrs": "mrs", "Ms": "ms", "Prof": "professor", "Rev": "reverend", "Hon": "honorable",
           "Gen": "general", "Col": "colonel", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant",
           "Gov": "governor", "Sen": "senator", "Rep": "representative", "Mt": "mount"}  # fmt: skip
_ABBREVIATIONS = {"etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department", "jr": "junior",
                  "sr": "senior", "inc": "incorporated", "ltd": "limited", "corp": "corporation", "co": "company",
                  "ave": "avenue", "blvd": "boulevard", "rd": "road", "govt": "government", "est": "established",
                  "misc": "miscellaneous", "tel": "telephone"}  # fmt: skip
_BEFORE_NUMBER = {"no": "number", "nos": "numbers", "fig": "figure", "vol": "volume", "ch": "chapter",
                  "sec": "section", "p": "page", "pp": "pages", "ext": "extension", "jan": "january",
                  "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
                  "sep": "september", "sept": "september", "oct": "october", "nov": "november",
                  "dec": "december"}  # fmt: skip


def normalise(text: str) -> list[tuple[str, str]]:
    """Spoken words in lower case, each with the mark of PUNCTUATION after it (of several marks the strongest).

    Raises UserError for a letter or symbol that English speech has no name for.
    """
    shouted = not any(c.islower() for c in text)
    text = _fold(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _tokens(_spell_acronyms(text, shouted).lower())


def _fold(text: str) -> str:
    """The text in printable ASCII and the signs of _CURRENCIES."""
    return "".join(_fold_character(c) for c in unicodedata.normalize("NFKC", text.translate(_FOLD)))


def _fold_character(c: str) -> str:
    category = unicodedata.category(c)
    if c.isascii() and c.isprintable() or c in _CURRENCIES:
        return c
    if category in ("Cf", "Mn"):  # soft hyphens, joiners, combining accents
        return ""
    if category[0] in "ZC":
        return " "
    if category in ("Ps", "Pe"):
        return ", "
    if category[0] == "P":
        return " "
    if unicodedata.name(c, "").startswith("LATIN"):
        from anyascii import anyascii

        return anyascii(c)
    name = unicodedata.name(c, "unnamed")
    raise UserError(
        f"cannot say the character {c!r} (U+{ord(c):04X}, {name}) as English; spell it out in English letters"
    )


def _number(digits: str, **kind: str) -> str:
    from num2words import num2words

    return num2words(int(digits), **kind).replace(",", "").replace("-", " ")


def _cardinal(number: str) -> str:
    """A number with thousands' commas and decimals; digit by digit where it is a code rather than a quantity."""
    whole, _, decimals = number.partition(".")
    bare = whole.replace(",", "")
    code = len(bare) > 1 and bare[0] == "0" or len(bare) > (15 if "," in whole else 9)
    spoken = _digits(bare) if code else _number(bare or "0")
    return f"{spoken} point {_digits(decimals)}" if decimals else spoken


def _digits(digits: str) -> str:
    return " ".join(_number(d) for d in digits if d.isdigit())


def _currency(m: re.Match) -> str:
    one, many, one_part, many_parts = _CURRENCIES[m["sign"]]
    whole, _, parts = m["amount"].partition(".")
    if m["scale"] or len(parts) not in (0, 2):  # $2.5 million
        return f" {_cardinal(m['amount'])} {m['scale'] or ''} {many} "
    spoken = f" {_cardinal(whole)} {one if whole == '1' else many} "
    if parts.strip("0"):
        spoken += f"and {_number(parts)} {one_part if parts == '01' else many_parts} "
    return spoken


def _time(m: re.Match) -> str:
    hour, minute = _number(m["hour"]), m["minute"]
    if minute == "00":
        return hour if m["half"] else f"{hour} o'clock"
    return f"{hour} {'oh ' if minute[0] == '0' else ''}{_number(minute)}"


def _half_day(m: re.Match) -> str:
    return f" _{m['half'].lower()} _m" + ("." if m["stop"] and _at_end(m) else "")


def _decade(m: re.Match) -> str:
    return f" {_plural(_number(m['year'], to='year'))} "


def _plural(spoken: str) -> str:
    return spoken[:-1] + "ies" if spoken.endswith("y") else _IRREGULAR_PLURALS.get(spoken, spoken + "s")


def _unit(m: re.Match) -> str:
    unit = _UNITS[m["unit"].lower()]
    return (
        f" {_cardinal(m['number'])} {unit if m['number'] == '1' else _plural(unit)}{m['stop'] if _at_end(m) else ''} "
    )


def _saint_or_street(m: re.Match) -> str:
    """Before a name "St." is saint and "Dr." is doctor; elsewhere after a name they are street and drive."""
    saint, street = {"St": ("saint", "street"), "Dr": ("doctor", "drive")}[m["short"]]
    rest = m.string[m.end() :]
    if re.match(r"\s+[A-Z]", rest) or m["short"] == "Dr" and not re.search(r"\b[A-Z]\w+\s+$", m.string[: m.start()]):
        return saint
    return street + ("." if m["stop"] and _at_end(m) else "")


def _abbreviation(m: re.Match) -> str:
    return _ABBREVIATIONS[m["short"].lower()] + ("." if re.match(r"\s*$|\s+[A-Z]", m.string[m.end() :]) else "")


def _initialism(m: re.Match) -> str:
    return _spelled(m["letters"].replace(".", "")) + ("." if m["letters"].endswith(".") and _at_end(m) else "")


def _at_end(m: re.Match) -> bool:
    return not m.string[m.end() :].strip(" \"')")


def _spelled(letters: str) -> str:
    return "".join(f" _{c.lower()}" for c in letters)


def _alternatives(table: dict) -> str:
    return "|".join(map(re.escape, sorted(table, key=len, reverse=True)))


_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+"
_RULES: list[tuple[re.Pattern, str | Callable[[re.Match], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"_", " "),
        (r"[\[\](){}]", ", "),
        (rf"\b(?P<short>{_alternatives(_TITLES)})\.", lambda m: _TITLES[m["short"]]),
        (r"\b(?P<short>St|Dr)\b(?P<stop>\.?)(?!')", _saint_or_street),
        (r"(?i)\be\.\s?g\.", "for example"),
        (r"(?i)\bi\.\s?e\.", "that is"),
        (rf"(?i)\b(?P<short>{_alternatives(_BEFORE_NUMBER)})\.\s?(?=\d)",
         lambda m: _BEFORE_NUMBER[m["short"].lower()] + " "),
        (rf"(?i)\b(?P<short>{_alternatives(_ABBREVIATIONS)})\.(?!\w)", _abbreviation),
        (r"(?i)(?<=\d)\s?(?P<half>[ap])(?:\.\s?m(?P<stop>\.)|m\b)", _half_day),
        (r"\b(?P<letters>[A-Za-z](?:\.[A-Za-z])+\b\.?)", _initialism),
        (r"\b(?P<letter>[A-HJ-Z])\.(?=\s+[A-Z])", lambda m: _spelled(m["letter"])),  # J. Smith
        (r"\b(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)\b(?P<half>(?=\s+_[ap] _m)|)", _time),
        (r"\b\d{3}-(?:\d{3}-)?\d{4}\b", lambda m: _digits(m[0])),  # telephone numbers
        (r"(?<=\d)-(?=\d)", " to "),
        (rf"(?P<sign>[$£€¥])\s?(?P<amount>{_NUMBER})(?P<scale>\s(?:thousand|million|billion|trillion)\b)?", _currency),
        (r"\d+(?:\.\d+){2,}", lambda m: " point ".join(_cardinal(n) for n in m[0].split("."))),  # versions, addresses
        (rf"(?P<whole>\b\d+ )?\b(?P<part>{_alternatives(_FRACTIONS)})\b",
         lambda m: (_cardinal(m["whole"].strip()) + " and " if m["whole"] else "") + _FRACTIONS[m["part"]]),
        (r"(?i)\b(?P<number>\d{1,15})(?:st|nd|rd|th)\b", lambda m: _number(m["number"], to="ordinal")),
        (r"\b(?P<year>1[1-9]\d0|20\d0)'?s\b", _decade),
        (rf"(?i)(?P<number>{_NUMBER})\s?(?P<unit>{_alternatives(_UNITS)})\b(?P<stop>\.?)(?!\w)", _unit),
        (rf"(?<![\w.])-(?={_NUMBER})", "minus "),
        (r"#(?=\s?\d)", "number "),
        (r"(?<![\d,.])(?:1[1-9]|20)\d\d(?![\d,]|\.\d)", lambda m: f" {_number(m[0], to='year')} "),
        (_NUMBER, lambda m: f" {_cardinal(m[0])} "),
        (r"(?<![\w*])\*(?![\w*])", " star "),
        (r"[&+=@%<>~$£€¥#]", lambda m: f" {_SYMBOLS[m[0]]} "),
        (r"(?<=[A-Za-z])\.(?=[A-Za-z])", " dot "),
        (r"\s--?\s|--+", ", "),
        (r"[/\\|^*\"-]", " "),
    )
]  # fmt: skip


def _spell_acronyms(text: str, shouted: bool) -> str:
    """Capitals become letters to name ("USB"), and so do single capitals and unknown words without a vowel.

    In a text all in capitals (`shouted`) words of the dictionary are words.
    """

    def spell(m: re.Match) -> str:
        word, plural = m["word"], m["plural"]
        if word in ("A", "I"):
            return m[0]
        if len(word) == 1 or not in_dictionary(word.lower()):
            spelled = len(word) <= 5 and word.isupper() or not re.search("[aeiouy]", word.lower())
        else:  # "ID", "TV", "US": the dictionary knows the letters' names as one of the pronunciations
            spelled = word.isupper() and not shouted and _is_pronounced_as_letters(word.lower())
        return _spelled(word) + ("'s" if plural else "") if spelled else m[0]

    return re.sub(r"(?<![\w'])(?P<word>[A-Za-z]+?)(?P<plural>(?<=[A-Z]{2})'?s)?(?![\w'])", spell, text)


def _is_pronounced_as_letters(word: str) -> bool:
    names = [phone.rstrip("012") for letter in word for phone in pronounce(letter + ".")[0]]
    return any([phone.rstrip("012") for phone in variant] == names for variant in pronounce(word))


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for m in re.finditer(r"(?P<letter>_[a-z](?:'s)?)|(?P<word>'?[a-z]+(?:'[a-z]+)*'?)|(?P<mark>[,.?!:;])", text):
        if m["letter"]:
            found.append((m["letter"][1] + "." + m["letter"][2:], ""))
        elif m["word"]:
            found.append((m["word"] if in_dictionary(m["word"]) else m["word"].strip("'"), ""))
        elif found:
            word, mark = found[-1]
            found[-1] = (word, max(mark, m["mark"], key=_STRENGTH.__getitem__))
    return found
