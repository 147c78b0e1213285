"""
Commands of Redis that are not offered, and why.

An error that only says "unknown command" sends people searching. What a multi-master store cannot do by its nature,
and what this one does in another way, is said where it is asked for.
"""

from __future__ import annotations

CONDITIONAL = (
    "one node cannot decide alone whether a key exists or what it holds, since another node may be writing it now; "
    "write, and let the table's resolver decide, or use MM.READ and MM.PUT … CONTEXT"
)
EXPIRY = "keys do not expire: nodes would disagree about the moment; delete with DEL"
_STEP = (
    "two nodes that change a value at once would each lose the other's change; use MM.READ and MM.PUT … CONTEXT in a "
    "table whose resolver merges"
)
_TYPES = "a value is one whole; write JSON with MM.PUT key value JSON, into a table whose resolver merges it"
_TRANSACTIONS = "there are no transactions across keys; MSET writes several keys in one local commit"
_CHANNELS = "there are no channels; follow changes with MM.CHANGES SINCE token BLOCK ms"
_SCRIPTS = "there are no scripts; resolvers are functions of the table, in Python"
_REPLICATION = "replication between nodes has a port and protocol of its own; see MM.MEMBERS"
_RENAME = "a key's history belongs to the key; read it, write the other, delete it"
_FLUSH = "it would delete only what this node has seen; use SCAN and DEL"
_SAVING = "each write is durable to the level that was asked for; see MM.DURABILITY"
_NAMES = "tables have names; use MM.TABLE name"

REFUSED: dict[str, str] = {
    name: why
    for why, names in {
        CONDITIONAL: "SETNX MSETNX RENAMENX",
        EXPIRY: "EXPIRE PEXPIRE EXPIREAT PEXPIREAT EXPIRETIME PEXPIRETIME SETEX PSETEX GETEX",
        _STEP: "INCR DECR INCRBY DECRBY INCRBYFLOAT APPEND SETRANGE SETBIT BITFIELD BITOP PFADD PFMERGE",
        _TYPES: (
            "LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LRANGE LLEN LINDEX LSET LREM LTRIM LINSERT LMOVE RPOPLPUSH BLPOP "
            "BRPOP BLMOVE SADD SREM SMEMBERS SISMEMBER SCARD SPOP SRANDMEMBER SINTER SUNION SDIFF SMOVE SSCAN "
            "HSET HSETNX HGET HMSET HMGET HGETALL HDEL HEXISTS HLEN HKEYS HVALS HINCRBY HINCRBYFLOAT HSCAN "
            "ZADD ZREM ZRANGE ZRANGEBYSCORE ZSCORE ZCARD ZRANK ZINCRBY ZPOPMIN ZPOPMAX ZSCAN "
            "XADD XREAD XRANGE XLEN XGROUP XREADGROUP XACK GEOADD GEOSEARCH"
        ),
        _TRANSACTIONS: "MULTI EXEC DISCARD WATCH UNWATCH",
        _CHANNELS: (
            "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB MONITOR"
        ),
        _SCRIPTS: "EVAL EVALSHA EVAL_RO EVALSHA_RO SCRIPT FCALL FCALL_RO FUNCTION",
        _REPLICATION: "REPLICAOF SLAVEOF PSYNC SYNC REPLCONF FAILOVER CLUSTER ASKING READONLY READWRITE ROLE WAITAOF",
        _RENAME: "RENAME COPY MOVE RESTORE MIGRATE DUMP",
        _FLUSH: "FLUSHALL FLUSHDB",
        _SAVING: "SAVE BGSAVE BGREWRITEAOF LASTSAVE",
        _NAMES: "SWAPDB",
    }.items()
    for name in names.split()
}
"""Command in capitals, to the reason."""
