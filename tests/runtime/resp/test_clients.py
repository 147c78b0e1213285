"""Clients that people have: redis-py in both versions of the protocol, redis-cli, redis-benchmark."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError

from tests.runtime.resp.fake import FakeBackend


@pytest.fixture(params=[2, 3])
async def client(request, serve, backend):
    port = await serve(backend)
    host, number = port.address.rsplit(":", 1)
    client = redis.asyncio.Redis(host=host, port=int(number), protocol=request.param)
    yield client
    await client.aclose()


async def test_redis_py_reads_and_writes(client):
    """The everyday commands, as redis-py gives them."""
    assert await client.ping()
    assert await client.set("k", b"\x00\r\n\xff")
    assert await client.get("k") == b"\x00\r\n\xff"
    assert await client.get("none") is None
    assert await client.set("k", "v", get=True) == b"\x00\r\n\xff"
    assert await client.mset({"a": "1", "b": "2"})
    assert await client.mget("a", "none", "b") == [b"1", None, b"2"]
    assert await client.exists("a", "b", "c") == 2
    assert await client.strlen("a") == 1
    assert await client.type("a") == b"string"
    assert await client.ttl("a") == -1
    assert await client.dbsize() == 3
    assert await client.keys("[ab]") == [b"a", b"b"]
    assert await client.delete("a", "b", "c") == 2
    assert await client.unlink("k") == 1


async def test_redis_py_pipelines(client):
    """A pipeline without a transaction works; with one it is refused with the reason."""
    async with client.pipeline(transaction=False) as pipe:
        for number in range(300):
            pipe.set(f"k{number}", number).get(f"k{number}")
        answers = await pipe.execute()
    assert answers[1::2] == [str(number).encode() for number in range(300)]
    async with client.pipeline(transaction=True) as pipe:
        pipe.set("a", 1)
        with pytest.raises(ResponseError, match="no transactions across keys"):
            await pipe.execute()
    assert await client.ping()


async def test_redis_py_scans(client):
    """scan_iter gives every key, though each call may come over another connection."""
    for number in range(100):
        await client.set(f"k{number:02}", b"v")
    assert [key async for key in client.scan_iter(match="k*", count=7)] == [b"k%02d" % number for number in range(100)]


async def test_redis_py_asks_about_the_server(client, backend):
    """INFO, CONFIG, COMMAND, CLIENT and TIME are understood by redis-py's own parsers."""
    info = await client.info()
    assert info["redis_version"] == "7.0.0"
    assert info["role"] == "master"
    assert await client.config_get("save") == {"save": ""}
    assert await client.client_setname("me")
    assert await client.client_getname() in ("me", b"me")
    assert any(entry["name"] == "me" for entry in await client.client_list())
    assert (await client.client_info())["resp"] in ("2", "3")
    assert await client.command_count() > 40
    assert "get" in await client.command()
    seconds, _ = await client.time()
    assert seconds > 1_600_000_000
    backend.acknowledged = 2
    assert await client.wait(1, 100) == 2


async def test_redis_py_sees_refusals(client):
    """What is not offered arrives as ResponseError with our reason."""
    with pytest.raises(ResponseError, match="another node may be writing it now"):
        await client.set("k", "v", nx=True)
    with pytest.raises(ResponseError, match="do not expire"):
        await client.expire("k", 10)
    with pytest.raises(ResponseError, match="INCRBY is not offered"):
        await client.incr("k")


async def test_redis_py_uses_our_own_commands(client, backend):
    """MM.* through execute_command: read, change, write back."""
    backend.table("").receive("cart", ["tea"], "lima")
    token = await client.execute_command("MM.CONTEXT", "cart")
    await client.execute_command("MM.PUT", "cart", json.dumps(["tea", "cake"]), "CONTEXT", token, "JSON")
    assert json.loads(await client.get("cart")) == ["tea", "cake"]
    assert await client.execute_command("MM.SIBLINGS", "cart") == [b'["tea","cake"]']


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_shows_the_password(serve, protocol):
    """With the password everything works, with another one nothing does."""
    port = await serve(FakeBackend(), password="hush")
    host, number = port.address.rsplit(":", 1)
    for password, right in (("hush", True), ("wrong", False)):
        client = redis.asyncio.Redis(
            host=host, port=int(number), protocol=protocol, password=password, retry=Retry(NoBackoff(), 0)
        )
        if right:
            assert await client.ping()
        else:
            with pytest.raises(AuthenticationError):
                await client.ping()
        await client.aclose()


async def run(*command: str, given: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(20):
            output, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
async def test_redis_cli(serve, backend):
    """redis-cli in both versions: one command, a script on its standard input, and --scan."""
    port = await serve(backend)
    number = port.address.rsplit(":", 1)[1]
    cli = ["redis-cli", "-p", number]
    assert await run(*cli, "SET", "k", "v") == "OK\n"
    assert await run(*cli, "-3", "GET", "k") == "v\n"
    script = b'SET "a b" "x\\ny"\nGET "a b"\nMM.TABLES\nINCR k\n'
    text = await run(*cli, "--no-raw", given=script)
    assert text.startswith('OK\n"x\\ny"\n')
    assert "last-writer-wins" in text
    assert "(error) ERR INCR is not offered" in text
    for key in range(30):
        backend.table("").put(f"n{key:02}", b"", None)
    assert (await run(*cli, "--scan")).split() == ["a", "b", "k", *(f"n{key:02}" for key in range(30))]


@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed")
async def test_redis_benchmark(serve, backend):
    """redis-benchmark finds what it looks for, and every request is answered."""
    port = await serve(backend)
    number = port.address.rsplit(":", 1)[1]
    text = await run(*f"redis-benchmark -p {number} -t set,get -n 2000 -c 10 -P 4 -q".split())
    assert text.count("requests per second") >= 2
    assert "rror" not in text
    assert port.shared.errors_count == 0
