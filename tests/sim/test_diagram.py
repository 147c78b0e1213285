"""Diagrams: what they tell, as text and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from mmrepl.sim import Cluster, Options, Run
from mmrepl.sim.diagram import HEARD_MAX

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def cluster():
    """Three nodes, a partition, a crash, a newcomer."""
    cluster = Cluster(["paris", "tokyo", "lima"], seed=7)
    cluster.partition({"paris"}, {"tokyo", "lima"})
    cluster["paris"].put("k", "one")
    cluster.run(20)
    cluster["lima"].put("k", "two")
    cluster.run(200)
    cluster.heal()
    cluster.run_until_converged()
    cluster.crash("lima")
    cluster.run(100)
    cluster.restart("lima")
    cluster.join("oslo")
    cluster.run_until_converged()
    return cluster


def texts(picture: str) -> list[str]:
    """All text of a picture, without what shows when pointed at."""
    root = ET.fromstring(picture)
    for parent in list(root.iter()):
        for title in parent.findall(SVG + "title"):
            parent.remove(title)
            parent.text = (parent.text or "") + (title.tail or "")
    return ["".join(text.itertext()) for text in root.iter(SVG + "text")]


def test_text_tells_who_did_what_and_who_heard(cluster):
    """Writes, arrows, siblings, what was done to the world, deaths and births."""
    told = str(cluster.diagram())
    for words in (
        "── partition paris | lima tokyo", "● put k='one'", "▷○ k='one'", "○◁ k='two'", "2 siblings, latest",
        "× crashed", "is up again", "begins",
    ):  # fmt: skip
        assert words in told, words


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_no_line_of_text_is_much_wider_than_asked_for(cluster, width):
    """Long labels go on below; only the last lane may need more than its share."""
    lines = str(cluster.diagram(width=width)).splitlines()
    assert max(map(len, lines)) <= max(width, 60) + 40
    assert len(lines) > 10


def test_a_picture_is_sound_and_tells_the_same(cluster):
    """XML that parses, nothing beyond its edges, a lane for each node."""
    picture = cluster.diagram().svg()
    root = ET.fromstring(picture)
    width, height = float(root.get("width")), float(root.get("height"))
    for line in root.iter(SVG + "line"):
        assert 0 <= float(line.get("x1")) <= width
        assert 0 <= float(line.get("x2")) <= width
        assert 0 <= float(line.get("y1")) <= float(line.get("y2")) <= height, "time goes down"
    told = texts(picture)
    for words in ("paris", "oslo", "put k='one'", "heal", "crashed", "begins"):
        assert words in told, words
    assert any("2 siblings" in text for text in told)


def test_a_part_of_a_diagram(cluster):
    """Between two moments."""
    whole = cluster.diagram()
    part = whole.between(1_000, 1_100)
    assert 0 < len(part.rows) < len(whole.rows)
    assert "crashed" not in str(part)
    assert ET.fromstring(part.svg()) is not None
    assert str(whole.between(-2, -1)).split() == ["paris", "tokyo", "lima", "oslo"]
    assert ET.fromstring(whole.between(-2, -1).svg()) is not None


def test_a_large_delta_is_summed_up():
    """The first operations one by one, then a number."""
    cluster = Cluster(["paris", "tokyo"], seed=1)
    cluster.partition({"paris"})
    for number in range(50):
        cluster["paris"].put(f"k{number}", number)
    cluster.heal()
    cluster.run_until_converged()
    heard = [row for row in cluster.diagram().rows if row.kind == "heard" and row.lane == 1]
    assert len(heard) <= 50
    assert len(heard) == HEARD_MAX + 1 or all("more" not in row.text for row in heard)


def test_every_run_under_faults_can_be_drawn():
    """Whatever happens in it."""
    for seed in range(6):
        run = Run(seed, Options(operations=60, duration_ms=1_500))
        run.go()
        diagram = run.diagram()
        assert ET.fromstring(diagram.svg()) is not None
        assert len(str(diagram).splitlines()) > 3
