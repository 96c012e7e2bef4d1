"""English sentences drawn from templates: statements, questions, exclamations and lists, for the synthetic corpus."""

import random
import re

WORDS = {
    "person": "my brother|the old farmer|a young doctor|our neighbour|the captain|Susan|her uncle|"
    "the tall waiter|Mr. Jackson|the new teacher|a famous singer|the night guard|my cousin Tom|"
    "the gardener|an angry customer",
    "past": "found|painted|borrowed|carried home|forgot about|sold|repaired|photographed|asked for|"
    "gave away|dropped|hid|wrapped up|described|bought",
    "verb": "find|paint|borrow|choose|forget|sell|repair|hide|open|clean|measure|lose|finish|enjoy|explain",
    "thing": "a wooden ladder|the yellow bicycle|three loaves of bread|the broken clock|an enormous map|"
    "her silver ring|the kitchen chairs|a box of oranges|the piano|his favourite coat|"
    "the garden fence|a pair of shoes|an ugly vase|the whole story|twelve letters",
    "noun": "apples|pencils|blankets|candles|sugar|envelopes|cheese|towels|flowers|nails|honey|coffee|maps|soap|ropes",
    "place": "behind the station|in the valley|near the harbour|at the office|under the bridge|"
    "on the top floor|by the river|across the street|in a quiet village|outside the museum|"
    "along the coast|at my aunt's house",
    "time": "last Thursday|before breakfast|this morning|in early June|after the storm|two years ago|"
    "around midnight|every weekend|at half past nine|during the holidays",
    "clause": "it was already dark|nobody had noticed|the weather turned cold|we missed the last train|"
    "she could not wait|the shop was closed|they had no choice|the music stopped|"
    "I had a better idea|the road was blocked",
    "adjective": "strange|wonderful|dreadful|brave|lovely|clever|terrible|beautiful|noisy|cheap",
}
TEMPLATES = {
    "statement": (
        "{Person} {past} {thing} {place}.",
        "{Time}, {person} {past} {thing}.",
        "{Person} {past} {thing} because {clause}.",
        "Although {clause}, {person} {past} {thing} {place}.",
        "{Clause}, so {person} had to {verb} {thing}.",
    ),
    "question": (
        "Did {person} {verb} {thing} {time}?",
        "Why would {person} {verb} {thing}?",
        "Where can I {verb} {thing}, if {clause}?",
        "Have you seen {thing} {place}?",
        "Who {past} {thing} {place}?",
    ),
    "exclamation": (
        "What a {adjective} day to {verb} {thing}!",
        "How {adjective} that {clause}!",
        "Stop! {Person} must not {verb} {thing}!",
        "Look, {person} {past} {thing} again!",
        "No! {Clause}!",
    ),
    "list": (
        "{Person} asked for {noun}, {noun}, {noun} and {noun} {time}.",
        "{Person} {past} {thing}, {thing} and {thing}.",
        "{Time}, we need {noun}, {noun}, and {thing}.",
        "First {verb} {thing}, then {verb} {thing}, and finally rest {place}.",
    ),
}
CHOICES = {name: words.split("|") for name, words in WORDS.items()}


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """`count` different sentences, each with its kind (a key of TEMPLATES), the kinds in turn."""
    rng = random.Random(seed)
    result: dict[str, str] = {}
    while len(result) < count:
        kind = list(TEMPLATES)[len(result) % len(TEMPLATES)]
        result.setdefault(_fill(rng.choice(TEMPLATES[kind]), rng), kind)
    return list(result.items())


def _fill(template: str, rng: random.Random) -> str:
    used: set[str] = set()

    def choose(slot: re.Match) -> str:
        name = slot[1]
        words = rng.choice([w for w in CHOICES[name.lower()] if w not in used])
        used.add(words)
        return words[0].upper() + words[1:] if name[0].isupper() else words

    return re.sub(r"\{(\w+)\}", choose, template)
