"""An elected leader, as a real process, that is told to stop."""

from tests.integration.elected import PATIENCE, Elected

ELECTION_MS = (4000, 8000)
"""Longer than a test would wait for an election that nobody asked for."""


async def test_a_leader_that_gets_sigterm_hands_over_before_it_stops(tmp_path):
    """Another one leads before it is gone, so nobody waits for an election; it ends with 0, and nothing is lost."""
    async with Elected(3, tmp_path, seed=1, election_ms=ELECTION_MS) as cluster:
        name, term = await cluster.news.until(cluster.leader, PATIENCE)
        await cluster.some_writes(20)
        leader = cluster.members[name]
        leader.terminate()
        assert await leader.gone(PATIENCE) == 0
        elected_at, other, later = await cluster.news.until(lambda: cluster.elected(term), PATIENCE)
        assert (other != name, later) == (True, term + 1)
        assert leader.when("stopping") <= elected_at <= leader.when("stopped")
        assert [event["to"] for event in leader.told if event["event"] == "handed over"] == [other]
        await cluster.some_writes(20)
        await leader.start()
        assert await cluster.lost() == {}


async def test_a_second_signal_stops_a_leader_at_once(tmp_path):
    """Its successor stands still, so it would wait for an election timeout; told again, it does not."""
    async with Elected(3, tmp_path, seed=2, election_ms=ELECTION_MS, clients=0) as cluster:
        name, _ = await cluster.news.until(cluster.leader, PATIENCE)
        leader = cluster.members[name]
        for member in cluster.members.values():
            if member is not leader:
                await member.stand_still()
        leader.terminate()
        stopping_at = await cluster.news.until(lambda: leader.when("stopping"), PATIENCE)
        leader.terminate()
        assert await leader.gone(PATIENCE) == 0
        assert leader.when("stopped") - stopping_at < ELECTION_MS[0] / 1000
        assert leader.when("handed over") is None
