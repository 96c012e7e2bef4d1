"""Groups of near-duplicate prompts, and a train/val/test split that keeps groups whole."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

CONTAINED = 0.6
"""a prompt that another contains word for word is its near-duplicate from this share of the other's words on"""
SIMILAR = 0.7
"""likewise for two prompts of this share of words in common, in order (difflib's ratio)"""
SHARED = min(CONTAINED, SIMILAR / (2 - SIMILAR))
"""share of the words of either that near-duplicates have in common at least: of the longer one, where they are as
unlike in length as SIMILAR allows"""
HELD_OUT = 0.1
"""share of the corpus that val and test get, each"""
LARGEST = 0.25
"""a group that would fill more than this share of val or test stays in train, so that a held-out split has many
groups"""


def normalise(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, letters and digits only."""
    kept = (c if c.isalnum() else "" if c in "'’" else " " for c in text.lower())
    return tuple("".join(kept).split())


def merge(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group of each name, where the two of a pair share one: the smallest name that pairs connect it with, itself
    included."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for pair in pairs:
        a, b = sorted(map(root, pair))
        parent[b] = a
    return {name: root(name) for name in parent}


def near_duplicates(texts: Mapping[str, str]) -> dict[str, str]:
    """Group of each id of `texts` (id -> text): the smallest id among its near-duplicates, theirs, and so on."""
    first: dict[tuple[str, ...], str] = {}
    equal = [(i, first.setdefault(normalise(texts[i]), i)) for i in sorted(texts)]
    prompts = [(words, Counter(words)) for words in first]
    similar = [
        (first[a], first[b])
        for (a, n), (b, m) in ((prompts[i], prompts[j]) for i, j in _candidates(list(first)))
        if _similar(a, b, sum((n & m).values()))
    ]
    return merge(texts, equal + similar)


def _candidates(prompts: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Positions of the pairs that can be near-duplicates, each once.

    Near-duplicates share SHARED of the words of both, so at least one that is rare in both: with words in order of
    their frequency, rarest first, one of those that are left without the last ones, fewer than SHARED (prefix
    filtering; Chaudhuri et al. 2006).
    """
    counted = [[(word, words[:i].count(word)) for i, word in enumerate(words)] for words in prompts]
    frequency = Counter(word for words in counted for word in words)
    holders: dict[tuple[str, int], list[int]] = defaultdict(list)
    for n, words in enumerate(counted):
        rare = sorted(words, key=lambda word: (frequency[word], word))
        rare = rare[: len(rare) + 1 - math.ceil(SHARED * len(rare) - 1e-9)]
        yield from ((m, n) for m in {m for word in rare for m in holders[word]})
        for word in rare:
            holders[word].append(n)


def _similar(a: tuple[str, ...], b: tuple[str, ...], common: int) -> bool:
    """`common`: words that both hold, whatever their order; it spares most pairs the slower comparison."""
    short, long = sorted((a, b), key=len)
    if common == len(short) >= CONTAINED * len(long):
        if any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1)):
            return True
    return 2 * common >= SIMILAR * (len(a) + len(b)) and SequenceMatcher(None, a, b, autojunk=False).ratio() >= SIMILAR


def split(groups: Sequence[str], amounts: Sequence[float], strata: Sequence[str], seed: int = 0) -> list[str]:
    """The split of each utterance, from its group, its amount (seconds, or any other measure) and its stratum.

    In every stratum (a group's is that of its first utterance in sorted order) val and test each get groups up to a
    tenth of the amount. Groups are taken in an order drawn from the seed and their names: the order of the utterances
    does not matter.
    """
    amount: dict[str, float] = defaultdict(float)
    stratum: dict[str, str] = {}
    for group, seconds, kind in sorted(zip(groups, amounts, strata, strict=True)):
        amount[group] += seconds
        stratum.setdefault(group, kind)
    order = sorted(amount, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    total: dict[str, float] = defaultdict(float)
    for group in order:
        total[stratum[group]] += amount[group]
    filled: dict[tuple[str, str], float] = defaultdict(float)
    result = {}
    for group in order:
        kind, target = stratum[group], HELD_OUT * total[stratum[group]]
        fits = [
            s
            for s in ("test", "val")
            if filled[kind, s] + amount[group] <= target and amount[group] <= LARGEST * target
        ]
        result[group] = min(fits, key=lambda s: filled[kind, s], default="train")
        filled[kind, result[group]] += amount[group]
    _fill_empty(result, amount)
    return [result[group] for group in groups]


def _fill_empty(result: dict[str, str], amount: Mapping[str, float]) -> None:
    """A small corpus of large groups: val and test get the smallest group each, while train keeps one."""
    for name in ("test", "val"):
        train = sorted((g for g in result if result[g] == "train"), key=lambda g: (amount[g], g))
        if name not in result.values() and len(train) > 1:
            result[train[0]] = name
