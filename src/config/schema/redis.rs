//! `redis.*`

use super::{
    field::{
        Field, Section, ValueKind, boolean, duration, field, file, integer, key, minutes, ms, secret, secret_text,
        text, unset, word,
    },
    read::{read_namespace, read_redis_urls},
};
use crate::config::Durability;

pub(super) static SECTION: Section = Section {
    name: "redis",
    text: "",
    keys: &[
        secret(key(
            "url",
            "\"redis://127.0.0.1:6379\"",
            Field {
                kind: ValueKind::Other("URL, or array of URLs, a secret"),
                set: |draft, _, input| {
                    draft.config.redis.url = read_redis_urls(input)?;
                    Ok(())
                },
            },
            "Address of Redis: `redis://host:port`, or `rediss://host:port` with TLS. With Sentinels: \
             `redis+sentinel://host:port[,host:port]/service[/db]`, or `rediss+sentinel://` with TLS to the Sentinels and to \
             the servers. For a cluster: an array of its nodes. A URL may contain a user and a password.",
        )),
        key(
            "namespace",
            "\"xco\"",
            field!(ValueKind::Other("1 to 64 of `A-Z a-z 0-9 _ . -`"), redis.namespace, read_namespace),
            "Prefix of every Redis key: `xco` makes `{xco:0}:…`. Producers use the same prefix.",
        ),
        key(
            "partitions",
            "1",
            integer!(1..=256, redis.partitions),
            "Number of partitions of the queue. Producers must know it. Only Redis Cluster needs more than 1.",
        ),
        key(
            "response_timeout",
            "\"2s\"",
            duration!(ms(100), minutes(5), redis.response_timeout),
            "Maximum time that a command waits for Redis's answer.",
        ),
        key(
            "connect_timeout",
            "\"2s\"",
            duration!(ms(100), minutes(1), redis.connect_timeout),
            "Maximum time that a connection to Redis takes to open.",
        ),
        key(
            "durability",
            "\"single\"",
            word!([("single", Durability::Single), ("replicated", Durability::Replicated)], redis.durability),
            "When a completion counts as stored. `single`: when the master has it. `replicated`: when a replica has it too. Then \
             a call that is not safe to repeat also waits until a replica knows of it, and while no replica answers nothing \
             is done.",
        ),
        key(
            "strict",
            "false",
            boolean!(redis.strict),
            "If true, a worker takes no jobs while Redis may delete keys to free memory (a `maxmemory-policy` other than \
             `noeviction`). If false, the worker runs and warns.",
        ),
        unset("sentinel.username", text!(some redis.sentinel.username), "User name for the Sentinels."),
        secret(unset(
            "sentinel.password",
            secret_text!(some redis.sentinel.password),
            "Password for the Sentinels. If it is not set and the Sentinels ask for one, they get the password of `redis.url`.",
        )),
        unset(
            "tls.ca_file",
            file!(some redis.tls.ca_file),
            "PEM file with the certificate authorities (CA) to trust for Redis, instead of the system's and those of \
             `SSL_CERT_FILE`. It is read again when it changes.",
        ),
        unset(
            "tls.cert_file",
            file!(some redis.tls.cert_file),
            "PEM file with the client certificate to show to Redis. It is read again when it changes.",
        ),
        unset(
            "tls.key_file",
            file!(some redis.tls.key_file),
            "PEM file with the private key of that client certificate. It is read again when it changes.",
        ),
    ],
};
