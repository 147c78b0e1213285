"""Real histories, replayed: the siblings at every merge and every head are what the commit graph says."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TRACE = ROOT.parent / "shared" / "data" / "antidote-history.jsonl.gz"

if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

from git_history import Replay, main, replay, survey, tell  # noqa: E402
from history.graph import Graph  # noqa: E402
from history.nodes import Nodes  # noqa: E402
from history.plan import Bring, Planner  # noqa: E402
from history.replicas import Replicas  # noqa: E402
from history.source import Commit, Unreadable, parse_log, read_history  # noqa: E402

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def random_history(rng, count, keys="abc", parents_max=3, roots=0.03):
    """Commits whose parents are any earlier ones, whose clocks show anything, and who write and delete at random."""
    commits = []
    for number in range(count):
        known = range(max(0, number - 9), number)  # not too wide
        parents = (
            ()
            if not known or rng.random() < roots
            else rng.sample(known, min(len(known), rng.choice((1, 1, 2, 2, parents_max))))
        )
        written = {key: rng.choice((None, f"{number}{key}")) for key in keys if rng.random() < 0.4}
        commits.append(
            Commit(number, f"c{number}", tuple(parents), rng.choice((-5, 0, rng.getrandbits(32), 1 << 40)), written)
        )
    return commits


@st.composite
def histories(draw):
    return random_history(draw(st.randoms(use_true_random=False)), draw(st.integers(1, 16)))


def embedded(commits, planner=Planner, places=Replicas):
    return replay("a history", commits, places, "embedded replicas", planner=planner)


# -- the judge


@given(histories())
def test_the_quick_judge_is_the_plain_one(commits):
    """Peeling off the latest and its ancestors gives the writes that are no ancestor of another."""
    Graph(commits).check()


def test_the_judge_uses_nothing_that_it_judges():
    """It knows no version vector, no dot, no context: it does not import mmrepl."""
    for name in ("graph.py", "source.py", "plan.py"):
        assert "mmrepl" not in (EXAMPLES / "history" / name).read_text(encoding="utf-8")


@given(histories(), st.booleans())
def test_a_plan_brings_exactly_the_parents_states(commits, mutual):
    """Carried out with sets of commits, a replica shows at each commit just the ancestors: none less, none later."""
    graph = Graph(commits)
    plan = Planner(graph, mutual=mutual).plan()
    held = [0] * plan.replica_count
    for step in plan.steps:
        if isinstance(step, Bring):
            held[step.target] |= held[step.source]
            if mutual:
                held[step.source] = held[step.target]
        else:
            held[step.replica] |= 1 << step.commit
            assert held[step.replica] == graph.ancestry[step.commit]


# -- embedded


@given(histories())
def test_any_history_replays(commits):
    """Merges of many, several roots, deletions, clocks that show anything: nothing wrong."""
    report = embedded(commits)
    assert report.wrong == 0, tell(report)


def test_a_long_random_history_replays():
    """Two hundred commits of everything, and the report counts what there was."""
    commits = random_history(random.Random(5), 200)
    report = embedded(commits)
    assert report.wrong == 0, tell(report)
    assert report.merges == sum(len(commit.parents) > 1 for commit in commits)
    assert report.octopus > 0
    assert report.deletes == sum(value is None for commit in commits for value in commit.writes.values())
    assert report.backwards > 0
    assert report.checked_keys == report.checked_states * 3
    assert report.most > 2
    assert report.with_siblings > report.tombstone_siblings > 0


@pytest.mark.skipif(not TRACE.exists(), reason="the trace is not there")
def test_ten_years_of_a_project_replay():
    """AntidoteDB's history: every one of its 418 merges, and its head."""
    report = embedded(read_history(str(TRACE)))
    assert (report.commits, report.merges, report.writes) == (2260, 418, 6563)
    assert report.checked_states == 419
    assert report.with_siblings > 10_000
    assert report.wrong == 0, tell(report)


# -- over the network


def test_a_history_replays_over_tcp():
    """The same, by nodes in two processes that meet and part."""
    commits = random_history(random.Random(6), 40)
    report = replay("a history", commits, lambda count: Nodes(count, 2), "nodes", mutual=True)
    assert report.wrong == 0, tell(report)
    assert report.exchanges > 20
    assert report.with_siblings > 10


# -- planted


def forks():
    return random_history(random.Random(7), 40, roots=0)


def test_a_merge_that_brings_a_later_state_is_found():
    """Planted: a replica that has moved on is taken for the state at the parent."""

    class Late(Planner):
        def _fork(self, commit):
            return self._replica_of[commit]  # not a copy, the thing itself

        def _is_free(self, commit):
            return False

    report = embedded(forks(), planner=Late)
    assert report.wrong > 0
    assert any(wrong.extra or wrong.missing for wrong in report.examples)
    assert "WRONG" in tell(report)


def test_a_merge_that_is_forgotten_is_found():
    """Planted: of a merge of several, one parent is not brought."""

    class Forgetful(Planner):
        def _merge(self, replica, parent, number):
            if number % 3:
                super()._merge(replica, parent, number)

    report = embedded(forks(), planner=Forgetful)
    assert report.wrong > 0
    assert any(wrong.missing for wrong in report.examples)


def test_a_sibling_that_is_dropped_is_found():
    """Planted: a store that lets the latest timestamp win when deltas meet, and forgets the others."""

    class LastWriterStays(Replicas):
        def siblings(self, number, keys):
            for key in keys:
                read = self.replicas[number].read(key)
                yield key, {sibling.dot: sibling.value for sibling in read.siblings[-1:]}

    report = embedded(forks(), places=LastWriterStays)
    assert report.wrong > 0
    assert all(wrong.missing and not wrong.extra for wrong in report.examples)


def test_a_sibling_that_should_be_gone_is_found():
    """Planted: writes that have seen nothing, and so replace nothing."""
    import mmrepl

    class Blind(Replicas):
        def write(self, number, commit):
            replica = self.replicas[number]
            return {
                key: (
                    replica.delete(key, context=mmrepl.BLIND)
                    if value is None
                    else replica.put(key, value, context=mmrepl.BLIND)
                ).dot
                for key, value in commit.writes.items()
            }

    report = embedded(forks(), places=Blind)
    assert report.wrong > 0
    assert all(wrong.extra for wrong in report.examples)


def test_a_value_that_was_changed_is_found():
    """Planted: the right writes with another content."""

    class Garbled(Replicas):
        def siblings(self, number, keys):
            for key, live in super().siblings(number, keys):
                yield key, {dot: value and value.upper() + "?" for dot, value in live.items()}

    report = embedded(forks(), places=Garbled)
    assert report.wrong > 0
    assert all(wrong.changed for wrong in report.examples)


# -- git


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Branches, a merge by hand, a criss-cross, a merge of three, deletions, odd names, an empty commit."""
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    home = tmp_path / "repository"
    home.mkdir()
    clock = iter((1_000_000_000, 999_999_000, 4_000_000_000, *range(1_000_000_100, 1_000_000_200)))

    def git(*words):
        if words[0] in ("commit", "merge"):
            monkeypatch.setenv("GIT_COMMITTER_DATE", f"{next(clock)} +0000")
        done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode in (0, 1), done.stderr  # 1: a merge that wants a hand
        return done.stdout

    def commit(**files):
        for name, text in files.items():
            path = home / {"odd": "odd\n\tname", "foreign": os.fsdecode(b"caf\xe9")}.get(name, name)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", "x")

    git("init", "-q", "-b", "main")
    commit(a="0", b="0", odd="0", foreign="0")
    for branch in ("one", "two", "three"):
        git("checkout", "-q", "-b", branch, "main")
        commit(**{"a": branch, branch: branch})
    git("checkout", "-q", "two")
    commit(b=None)
    git("checkout", "-q", "one")
    commit(b="one", odd="one")
    git("merge", "-q", "two")
    commit(a="one and two", b="one")
    git("branch", "cross", "one")
    git("checkout", "-q", "three")
    commit(c="three", foreign=None)
    git("merge", "-q", "-s", "ours", "-m", "ours", "one")
    git("checkout", "-q", "cross")
    commit(d="cross")
    git("merge", "-q", "-s", "ours", "-m", "crossed", "three~1")
    for branch in ("four", "five", "six"):
        git("checkout", "-q", "-b", branch, "cross")
        commit(**{branch: branch})
    git("merge", "-q", "-m", "of three", "four", "five")
    commit()
    return home


@needs_git
def test_a_repository_is_read(repository):
    """Parents, times, writes, deletions; a merge writes what differs from all its parents; names as they are."""
    commits = read_history(str(repository))
    assert len(commits) == 16
    assert [len(commit.parents) for commit in commits].count(2) == 3
    assert [len(commit.parents) for commit in commits].count(3) == 1
    assert all(parent < commit.number for commit in commits for parent in commit.parents)
    assert set(commits[0].writes) == {"a", "b", "odd\n\tname", r"caf\xe9"}
    assert commits[0].time == 1_000_000_000
    assert {999_999_000, 4_000_000_000} < {commit.time for commit in commits}
    deletions = [(key, commit) for commit in commits for key, value in commit.writes.items() if value is None]
    assert sorted(key for key, _ in deletions) == ["b", r"caf\xe9"]
    by_hand = next(commit for commit in commits if len(commit.parents) == 2 and commit.writes)
    assert set(by_hand.writes) == {"a"}  # b is as in one parent, so nobody wrote it
    [empty] = [commit for commit in commits if not commit.writes and len(commit.parents) == 1]
    assert empty.number == len(commits) - 1
    assert len(read_history(str(repository), limit=3)) == 3


@needs_git
@pytest.mark.parametrize("how", [(), ("--processes", "1")])
def test_a_repository_replays(repository, how, capsys):
    """The program says that nothing is wrong, and what it did, and exits with 0."""
    assert main([str(repository), "--json", *how]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["commits"], report["merges"], report["octopus"], report["wrong"]) == (16, 4, 1, 0)
    assert report["with_siblings"] > 0
    assert report["tombstone_siblings"] > 0


@needs_git
def test_the_program_tells_what_it_found(repository, capsys, monkeypatch):
    """As text; and a planted fault makes it exit with 1 and name commit, key and write."""
    assert main([str(repository)]) == 0
    assert "nothing wrong among" in capsys.readouterr().out
    monkeypatch.setattr(Planner, "_merge", lambda self, replica, parent, number: None)
    assert main([str(repository)]) == 1
    told = capsys.readouterr().out
    assert "WRONG" in told
    assert "does not live and should: the write of" in told


# -- bad input


def test_what_cannot_be_read_is_said(tmp_path, capsys):
    """No such place, no repository, no trace, a trace that is cut or refers to nothing: exit code 2 and a sentence."""
    (tmp_path / "text").write_text("no trace")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b'{"id":0,"parents":[],"time":0,"writes":{}}\n' * 50)[:-12])
    (tmp_path / "orphan.gz").write_bytes(gzip.compress(b'{"id":1,"parents":[0],"time":0,"writes":{}}\n'))
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    for name in ("nowhere", "text", "cut.gz", "orphan.gz", "empty.gz"):
        assert main([str(tmp_path / name)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert name in told.err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--limit", "0"])


@needs_git
def test_a_folder_without_repository_is_said(tmp_path, capsys, monkeypatch):
    """What git says is passed on."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main([str(tmp_path)]) == 2
    assert "not a git repository" in capsys.readouterr().err


def test_a_log_that_is_cut_is_not_taken_for_a_whole():
    """A record without its file name, or a commit without its time, raises."""
    whole = [b"\x01aa", b"", b"5", b"\n:000000 100644 0 1 A", b"f", b""]
    assert [commit.writes for commit in parse_log(whole)] == [{"f": "1"}]
    for cut in (2, 4):
        with pytest.raises((StopIteration, RuntimeError)):
            list(parse_log(whole[:cut]))


def test_replaying_by_hand():
    """Plan, places and report can be had apart, as an application would that has its own."""
    commits = random_history(random.Random(8), 12)
    graph = Graph(commits)
    plan = Planner(graph, mutual=False).plan()
    report = survey("mine", graph, plan, "replicas")
    places, seen = Replicas(plan.replica_count), []
    Replay(graph, plan, places, report).run(lambda done, wrong: seen.append((done, wrong)))
    places.close()
    assert seen == [(number + 1, 0) for number in range(12)]
    with pytest.raises(Unreadable):
        read_history("/nowhere at all")
