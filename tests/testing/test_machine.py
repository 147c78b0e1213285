"""The machine plays with real replicas, and finds what is planted in them."""

from __future__ import annotations

from mmrepl.testing import ReplicationMachine

TestReplication = ReplicationMachine.TestCase
