"""Whole single-master worlds under faults: fixed seeds, and those that once failed."""

from __future__ import annotations

import pytest

from mmrepl.sim.single_master import LogOptions, SingleMasterCluster, run_log_seed
from mmrepl.single_master.replication import Tenure


@pytest.mark.parametrize("failover", ["automatic", "manual"])
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_worlds_under_faults(failover, first):
    """Ten seeds each: nothing acknowledged is lost, one leader a term, and it becomes equal in the end."""
    for seed in range(first, first + 10):
        outcome = run_log_seed(seed, LogOptions(failover=failover))
        assert outcome.ok, f"{outcome.command}: {outcome.violations[0]}"


STORIES = {
    ("automatic", 2): "a checkpoint ran ahead of a slow disk, for others had committed what it did not hold yet",
    ("automatic", 45): "a quorum was taken away by an operator who removed one while another had forgotten",
    ("automatic", 50106): "world: a second vote was taken away before it was seen that the first had rotted away",
    ("automatic", 601911): "who needed a snapshot and took nothing was sent heartbeats for ever, in one turn",
    ("automatic", 1000043): "a leader that had taken itself out fell, and those who needed its vote did not hear of it",
    ("automatic", 1201028): "a member was told of its removal by one that had not committed it, and was emptied",
    ("automatic", 1201158): "the votes of a lost election were counted again among fewer members: two led",
    ("automatic", 1201931): "world: two votes were taken away, one of them from who was about to be given it",
    ("automatic", 621095): "judge: who won an old term late was said to lack what a newer one had committed",
    ("automatic", 622739): "world: a vote was taken away before a restored disk was known to have forgotten its own",
    ("automatic", 1059): "world: a node that had lost power, its end torn, was still counted among those who remember",
    ("automatic", 5007560): "a member that had come back was told again of the removal of who it was before",
    ("automatic", 3021381): "a learner got its vote that looked live, and had been wiped before it became a candidate",
    ("manual", 6007969): "world: a disk lost what its node had read, and had told others, since it was opened",
    ("manual", 6004584): "judge: after force no branch was left of a log cut of what a majority held",
    ("manual", 7): "a primary cut its log beyond what a majority held, and a branch had only the rest of it",
    ("manual", 209): "a primary changed the members twice before others knew, and a minority of the old confirmed",
    ("manual", 236): "a joint configuration was never left: who had committed it had died before that",
    ("manual", 1189): "a primary that was no voter any more went before others knew, and nobody could follow it",
    ("manual", 1685): "a snapshot came before it was shown where the logs part, and acknowledged writes had no branch",
    ("manual", 4042): "judge: what a node had put on its disk in the moment of its death was not in its history",
    ("manual", 4084): "a retry was answered at any level of acknowledgement as soon as the first attempt was applied",
    ("manual", 20112): "a replica whose log was cut further than the primary knew was sent back by a snapshot",
    ("manual", 20484): "judge: a snapshot that ends where the log began was not seen to be one",
    ("manual", 30083): "a deposed primary refused the snapshot that would have taken it back to where the logs part",
    ("manual", 1201052): "judge: after force, branches were asked for what a majority held and had cut",
    ("manual", 1203064): "two of four replicas had lost their memories, and no change was ever settled again",
    ("manual", 1205953): "a primary put a replica in its place that had forgotten whom it had voted for",
    ("manual", 3010580): "what a replica had confirmed before it lost its disk came again, and was believed",
    ("manual", 3011136): "world: a node was given a vote as who it had been before it lost its memory",
    ("manual", 3013977): "a removal that a deposed primary alone held kept it from voting for who went further",
    ("manual", 3015331): "who alone knew that it had no vote any more went furthest, and could not be promoted",
    ("manual", 3018049): "a late snapshot took from a replica what it had confirmed, for its log began later",
    ("manual", 3018643): "all did not mean those who were about to lose their votes, and did not know it yet",
    ("manual", 72): "what a wiped member's predecessor had confirmed was counted for the one that came back",
    ("manual", 4012110): "world: what came and went while a node stood still was never dialled again by it",
}


@pytest.mark.parametrize(("failover", "seed"), STORIES)
def test_worlds_that_once_failed(failover, seed):
    """Each was a defect, told above."""
    outcome = run_log_seed(seed, LogOptions(failover=failover))
    assert outcome.ok, f"{outcome.command}: {outcome.violations[0]}"


def test_the_same_seed_gives_the_same_run():
    """To the byte of the trace."""
    assert run_log_seed(7).trace_digest == run_log_seed(7).trace_digest


def forgetful_member():
    """A follower loses its disk and is added again; what its predecessor confirmed, and what it confirms itself."""
    cluster = SingleMasterCluster(["paris", "tokyo", "lima"], seed=4)
    leader = cluster.run_until_led()
    for number in range(5):
        cluster.put("k", number)
    cluster.run_until_equal()
    name = next(name for name in cluster.names if name != leader)
    confirmed = cluster.core(leader).tenure.progress[name].match
    cluster.crash(name)
    cluster.wipe(name)
    cluster.restart(name)
    cluster.run(200)
    node = cluster.node(leader)
    node.ask(lambda core, token: core.change_members(*node.now(), token=token, add=(name,)), lambda _event: None)
    return confirmed, cluster.core(leader).tenure.progress[name].match


def test_what_a_predecessor_confirmed_is_forgotten_with_its_disk():
    """A member that comes back empty holds nothing, whatever one of its name had."""
    confirmed, now = forgetful_member()
    assert confirmed > 0
    assert now == 0


def test_confirmations_counted_by_name_are_found(monkeypatch):
    """Planted: progress that goes by the name takes the newcomer for its predecessor."""
    members_changed = Tenure.members_changed

    def by_name(self):
        nodes = {member.name: member.node for member in self._core.history.current.members}
        for name, progress in self.progress.items():
            progress.node = nodes.get(name, progress.node)
        members_changed(self)

    monkeypatch.setattr(Tenure, "members_changed", by_name)
    confirmed, now = forgetful_member()
    assert now == confirmed
