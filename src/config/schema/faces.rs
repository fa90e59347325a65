//! `http.*`, `gateway.*` and `telemetry.*`

use super::{
    super::{LogFormat, tokens::read_tokens},
    field::{Field, Section, ValueKind, field, key, listen, secret, unset, word},
    read::read_filter,
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
        unset("listen", listen!(gateway.listen), "Where the HTTP gateway listens. If not set, or `off`, nowhere."),
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
