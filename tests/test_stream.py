"""A stream can be read anywhere, and each corpus comes as often as its rate says, at any number of epochs."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_gen.stream import Rounds, Stream

rates = st.one_of(st.just(Fraction(1)), st.fractions(Fraction(1, 100), 1, max_denominator=1000))
corpora = st.lists(st.tuples(st.integers(0, 12), rates), min_size=1, max_size=4)


def stream(parts, bucket: int = 8) -> Stream:
    return Stream(0, bucket, 100 + np.arange(sum(n for n, _ in parts)), tuple(parts))


@settings(max_examples=100)
@given(corpora.filter(lambda parts: any(n for n, _ in parts)), st.integers(1, 6))
def test_any_number_of_epochs_draws_every_member_as_often_as_its_rate_says(parts, epochs):
    of = np.concatenate([np.full(n, i) for i, (n, _) in enumerate(parts)])
    s, drawn = stream(parts), Counter()
    for epoch in range(epochs):
        places = s.drawn(epoch)
        assert len(set(places.tolist())) == len(places) == sum(s.epochs.counts(epoch))
        drawn.update(places.tolist())
    for place, part in enumerate(of):
        exact = epochs * parts[part][1]
        assert drawn[place] in (math.floor(exact), math.ceil(exact))
    for part, (n, rate) in enumerate(parts):
        assert sum(drawn[p] for p in np.flatnonzero(of == part).tolist()) == math.ceil(epochs * n * rate)


@settings(max_examples=40)
@given(corpora.filter(lambda parts: any(n for n, _ in parts)), st.integers(0, 100), st.integers(1, 40))
def test_a_stream_is_read_anywhere(parts, first, n):
    s = stream(parts)
    whole = []
    epoch = 0
    while len(whole) < first + n:
        members = s(s.epochs.start(epoch), count) if (count := sum(s.epochs.counts(epoch))) else []
        assert sorted(members) == sorted(s.members[s.drawn(epoch)])
        whole += list(members)
        epoch += 1
    np.testing.assert_array_equal(s(first, n), whole[first : first + n])
    np.testing.assert_array_equal(stream(parts)(first, n), s(first, n))


@given(st.lists(st.fractions(0, 5, max_denominator=50), min_size=1, max_size=4).filter(any), st.integers(0, 500))
def test_every_entry_belongs_to_one_round(amounts, entry):
    rounds = Rounds(tuple(amounts))
    number = rounds.holding(entry)
    assert rounds.start(number) <= entry < rounds.start(number + 1)
    assert rounds.before(number) == [math.ceil(number * amount) for amount in amounts]
    assert all(n > 0 for n, amount in zip(rounds.counts(0), amounts, strict=True) if amount)


def test_one_corpus_comes_in_plain_shuffled_epochs():
    """As it always did: a run that was started before there were mixtures goes on with the same batches."""
    members, found = 100 + np.arange(7), []
    for epoch in range(4):
        found += members[np.random.default_rng((0, 1, 8, epoch)).permutation(np.arange(7, dtype=np.int32))].tolist()
    assert stream([(7, Fraction(1))])(3, 20).tolist() == found[3:23]


def test_a_rare_corpus_alone_in_its_bucket_is_found_at_once():
    s = stream([(0, Fraction(1)), (1, Fraction(1, 1000))])
    assert s(10**6, 8).tolist() == [100] * 8
