"""Resolvers that people write, and what is said when they fail."""

from __future__ import annotations

import pytest
from hypothesis import given

from mmrepl.errors import InvalidValue, MmreplError, ResolverError
from mmrepl.resolvers import LastWriterWins, Resolution, Resolver, Sibling
from tests.resolvers.strategies import shuffled

TEA = Sibling.of("tea", timestamp=1, origin="paris")
COFFEE = Sibling.of("coffee", timestamp=2, origin="lima")
GONE = Sibling.tombstone(timestamp=3, origin="tokyo")


class DeleteWins(Resolver):
    """A deletion beats any concurrent update; wraps, to be asked about one value beside deletions too."""

    wraps = True

    def decide(self, siblings):
        gone = [sibling for sibling in siblings if sibling.is_tombstone]
        return Resolution.select((gone or siblings)[-1], siblings)


@given(shuffled())
def test_a_resolver_of_ones_own_sees_canonical_order(both):
    """A subclass has nothing to sort, and answers the same everywhere."""
    ours, theirs = both
    resolution = DeleteWins().resolve(ours)
    assert resolution == DeleteWins().resolve(theirs)
    assert resolution.present == (bool(ours) and not any(sibling.is_tombstone for sibling in ours))


def test_a_resolver_that_does_not_wrap_is_asked_only_about_several_values():
    """One value, or none, is settled before: that is what the store's short way relies on."""

    class Asked(Resolver):
        def decide(self, siblings):
            raise AssertionError

    assert Asked().resolve([TEA]).winner == TEA.dot
    assert Asked().resolve([TEA, GONE]).losers == (GONE,)
    assert not Asked().resolve([GONE]).present
    with pytest.raises(ResolverError):
        Asked().resolve([TEA, COFFEE])


def test_what_a_resolver_raises_is_reported_with_the_siblings():
    """By name, with the cause, and with what it was given, in canonical order."""

    class Broken(Resolver):
        policy = "broken"

        def decide(self, siblings):
            return siblings[7]

    with pytest.raises(ResolverError, match="broken raised IndexError: tuple index out of range; given Sib") as caught:
        Broken().resolve([COFFEE, TEA])
    assert caught.value.siblings == (TEA, COFFEE)
    assert caught.value.policy == "broken"
    assert isinstance(caught.value.__cause__, IndexError)
    assert isinstance(caught.value, MmreplError)


def test_many_siblings_do_not_make_an_endless_message():
    """Five are shown; the error holds them all."""

    class Broken(Resolver):
        def decide(self, siblings):
            raise RuntimeError("no")

    many = [Sibling.of("x" * 5_000, timestamp=1, origin="a", counter=n) for n in range(1, 201)]
    with pytest.raises(ResolverError, match="and 195 more") as caught:
        Broken().resolve(many)
    assert len(str(caught.value)) < 1_000
    assert len(caught.value.siblings) == 200


def test_the_error_can_be_told_its_place():
    """A resolver does not know the key; whoever does says it, and nothing else is lost."""
    error = ResolverError("callback f raised", policy="callback f", siblings=(TEA,)).at("key 'ada' of table 'carts'")
    assert str(error) == "key 'ada' of table 'carts': callback f raised"
    assert (error.policy, error.siblings) == ("callback f", (TEA,))


def test_an_answer_of_another_type_is_refused():
    """A subclass that answers the bare value is told so."""

    class Bare(Resolver):
        def decide(self, siblings):
            return siblings[0].value

    with pytest.raises(ResolverError, match="answered a str, not a Resolution"):
        Bare().resolve([TEA, COFFEE])


def test_a_false_claim_to_select_is_refused():
    """The store forgets all but the last sibling on the strength of `selects`: claiming it falsely would lose values."""

    class FirstWriterWins(Resolver):
        selects = True

        def decide(self, siblings):
            return Resolution.select(siblings[0], siblings)

    with pytest.raises(ResolverError, match="not the last"):
        FirstWriterWins().resolve([TEA, COFFEE])
    FirstWriterWins.selects = False
    assert FirstWriterWins().resolve([TEA, COFFEE]).value == "tea"


def test_interruptions_are_not_swallowed():
    """Ctrl-C during a resolver is Ctrl-C."""

    class Interrupted(Resolver):
        def decide(self, siblings):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted().resolve([TEA, COFFEE])


def test_a_resolver_must_decide():
    """The base cannot be used by itself."""
    with pytest.raises(TypeError):
        Resolver()


def test_an_answer_says_who_lost_to_whom_and_why():
    """A sentence for each loser, for each reason there is."""
    early = Sibling.of("early", timestamp=1, origin="b")
    late = Sibling.of("late", timestamp=2, origin="b", counter=2)
    other = Sibling.of("other", timestamp=2, origin="a")
    again = Sibling.of("again", timestamp=2, origin="b", counter=3)
    deletion = Sibling.tombstone(timestamp=9, origin="z")
    wins = LastWriterWins().resolve([again, early, other, late])
    assert wins.explain() == (
        "'early' (b~0:1) lost to 'again' (b~0:3): it is earlier, 1 before 2",
        "'other' (a~0:1) lost to 'again' (b~0:3): same timestamp, and its origin sorts first",
        "'late' (b~0:2) lost to 'again' (b~0:3): same timestamp and origin, and its counter is lower",
    )
    assert LastWriterWins().resolve([early, deletion]).explain() == (
        "'early' (b~0:1) lost to the deletion z~0:1: it is earlier, 1 before 9",
    )
    assert DeleteWins().resolve([early, deletion]).explain() == (
        "'early' (b~0:1) lost to the deletion z~0:1: the resolver chose so",
    )
    everything = canonical_merge(early, late, deletion)
    assert everything.explain() == ("the deletion z~0:1 gave way to concurrent updates",)
    assert Resolution((early, late), b"\x01", None, (early,)).explain() == (
        "'early' (b~0:1) is not part of the answer",
    )


def canonical_merge(*siblings):
    return Resolution.merge(["both"], siblings)


def test_one_update_beside_a_deletion():
    """The reason is the rule, not the stamps."""

    class Any(Resolver):
        def decide(self, siblings):
            raise AssertionError

    assert Any().resolve([TEA, GONE]).explain() == (
        "the deletion tokyo~0:1 lost to 'tea' (paris~0:1): an update survives a concurrent deletion",
    )


def test_a_resolution_is_readable():
    """For a look at the prompt."""
    assert repr(LastWriterWins().resolve([TEA, COFFEE])) == "Resolution('coffee', winner=lima~0:1, losers=paris~0:1)"
    assert repr(LastWriterWins().resolve([TEA, GONE])) == "Resolution(absent, winner=tokyo~0:1, losers=paris~0:1)"
    assert repr(Resolution.absent(())) == "Resolution(absent)"


def test_a_value_of_none_is_present():
    """Absent is not None."""
    resolution = LastWriterWins().resolve([Sibling.of(None, timestamp=1, origin="a")])
    assert resolution.present
    assert resolution.value is None


def test_merging_into_what_cannot_be_stored_is_refused():
    """The answer is encoded at once, while it is known who made it."""
    with pytest.raises(InvalidValue, match="make it a sorted list"):
        Resolution.merge({"tea"}, (TEA, COFFEE))
