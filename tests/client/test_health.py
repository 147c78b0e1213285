"""Up, down, and when to look again."""

from __future__ import annotations

import random

from mmrepl.client.health import Health, Role

PRIMARY = Role(mode="single-master", role="primary", name="a", term=3)


def test_up_from_the_first_answer_and_down_from_the_first_failure():
    """What changes where calls go is told, and only that."""
    health = Health(1000, random.Random(1))
    assert not health.up
    assert health.failed("nobody there")
    assert not health.failed("nobody there")
    assert health.answered(5.0, PRIMARY)
    assert not health.answered(5.0, PRIMARY)
    assert health.answered(5.0, Role(role="replica"))
    assert health.failed("silent")
    assert (health.up, health.trouble) == (False, "silent")


def test_the_round_trip_is_smoothed_and_begins_anew_after_an_outage():
    """One slow answer does not make a node far; an old measurement does not outlive the path that it was made on."""
    health = Health(1000, random.Random(1))
    health.answered(1.0, PRIMARY)
    health.answered(9.0, PRIMARY)
    assert health.rtt_ms == 3.0
    health.failed("silent")
    health.answered(9.0, PRIMARY)
    assert health.rtt_ms == 9.0


def test_a_node_that_is_down_is_tried_less_and_less_but_for_ever():
    """From 100 ms, doubling to 30 s, half of it by chance; from the start again once it was up."""
    health = Health(1000, random.Random(1))
    waits = []
    for _ in range(12):
        health.failed("nobody there")
        waits.append(health.next_ms())
    assert all(min(100 << n, 30_000) // 2 <= wait <= min(100 << n, 30_000) for n, wait in enumerate(waits))
    health.answered(1.0, PRIMARY)
    assert health.next_ms() == 1000
    health.failed("silent")
    assert health.next_ms() <= 100


def test_a_role_is_read_with_care():
    """Bytes or text, missing or strange: what is not as it should be is empty."""
    said = {b"mode": b"single-master", b"role": b"primary", b"name": b"a", b"term": 3, b"more": [1]}
    assert Role.parse(said) == PRIMARY
    assert Role.parse({"role": 7, b"term": "x", b"primary": None}) == Role()
    assert Role.of_redis({b"role": b"master"}).role == "primary"
    assert Role.of_redis({b"role": b"slave"}).role == "replica"
    assert Role.of_redis(None) == Role()
