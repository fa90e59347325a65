//! `http.*`, `gateway.*` and `telemetry.*`

use super::{
    super::{
        LogFormat,
        tokens::{read_ticket_keys, read_tokens},
        value::Separator,
    },
    field::{Field, Section, ValueKind, duration, field, hours, key, listen, minutes, secret, unset, word},
    read::{read_environment, read_filter, read_origin, read_public_url},
};

pub(super) static HTTP: Section = Section {
    name: "http",
    text: "",
    keys: &[key(
        "listen",
        "\"127.0.0.1:9464\"",
        listen!(http.listen),
        "Where the worker serves `/healthz`, `/readyz` and `/metrics`. `off` turns it off.",
    )],
};

pub(super) static GATEWAY: Section = Section {
    name: "gateway",
    text: "",
    keys: &[
        key(
            "listen",
            "\"127.0.0.1:8080\"",
            listen!(gateway.listen),
            "Where `xco-worker gateway` serves web tiers, operators and the console. Without `gateway.tokens` it must be an address of \
             this machine alone, because every request is then allowed.",
        ),
        unset(
            "probe_listen",
            listen!(gateway.probe_listen),
            "One more address, for `/healthz`, `/readyz` and `/metrics` alone, without a token. Probes are answered here even if \
             clients take all connections of `gateway.listen`.",
        ),
        unset(
            "public_url",
            field!(ValueKind::Other("`https://` or `http://` URL"), some gateway.public_url, read_public_url),
            "The gateway's address as browsers see it, such as `https://jobs.shop.example`. `wait_url` begins with it. If not set, \
             the `Host` of each request is used.",
        ),
        key(
            "environment",
            "\"development\"",
            field!(ValueKind::Text, gateway.environment, read_environment),
            "Name of the installation, such as `production`. Every page of the console shows it.",
        ),
        key(
            "allowed_origins",
            "[]",
            Field {
                kind: ValueKind::Other("array of origins"),
                set: |draft, _, input| {
                    draft.config.gateway.allowed_origins = input.each(Separator::Comma, read_origin)?;
                    Ok(())
                },
            },
            "Web pages that may wait for a job with its ticket, by origin: `[\"https://shop.example\"]`.",
        ),
        key(
            "ticket_keys",
            "[]",
            Field {
                kind: ValueKind::Other("array of tables"),
                set: |draft, _, input| {
                    draft.ticket_key_files = read_ticket_keys(input)?;
                    Ok(())
                },
            },
            "Keys that sign tickets: `{ id = \"a\", secret_file = \"/run/secrets/ticket-key-a\" }`. The file holds 64 hexadecimal \
             digits (`openssl rand -hex 32`), or at least 32 bytes that are used as they are. The first key signs, all verify: to \
             change the key, add the new one second on every gateway, then move it first, then remove the old one after \
             `gateway.ticket_ttl`. If none is set, the gateway makes one at start, which another gateway and a restart do not know. They also \
             seal people in addresses of the console.",
        ),
        key(
            "ticket_ttl",
            "\"10m\"",
            duration!(minutes(1), hours(1), gateway.ticket_ttl),
            "How long a ticket is valid.",
        ),
        // The digests are no secrets, but no message needs to show them.
        secret(key(
            "tokens",
            "[]",
            Field {
                kind: ValueKind::Other("array of tables"),
                set: |draft, _, input| {
                    draft.config.gateway.tokens = read_tokens(input)?;
                    Ok(())
                },
            },
            "Bearer tokens of the gateway's users: `{ name = \"shop\", sha256 = \"<64 hexadecimal digits>\", roles = \
             [\"enqueue\", \"read\"], merchants = [] }`. Roles are `enqueue`, `read` and `operate`. An empty `merchants` means \
             every merchant.",
        )),
    ],
};

pub(super) static TELEMETRY: Section = Section {
    name: "telemetry",
    text: "Traces and metrics are also sent by OTLP if the standard variable `OTEL_EXPORTER_OTLP_ENDPOINT` is set.",
    keys: &[
        key(
            "log",
            "\"info\"",
            field!(ValueKind::Other("filter"), telemetry.log, read_filter),
            "Which log lines are written: `error`, `warn`, `info`, `debug`, `trace`, or by module: \
             `info,xco_worker::worker=debug`.",
        ),
        key(
            "format",
            "\"text\"",
            word!([("text", LogFormat::Text), ("json", LogFormat::Json)], telemetry.format),
            "Format of log lines: `text` for people, `json` for machines.",
        ),
    ],
};
