//! `xco.*`

use super::{
    super::{TokenAuth, urls::parse_http_url, value::Separator},
    field::{
        Field, Section, ValueKind, boolean, days, duration, field, file, integer, key, minutes, ms, seconds, secret,
        secret_text, text, unset, word,
    },
    read::text_item,
};

pub(super) static SECTION: Section = Section {
    name: "xco",
    text: "",
    keys: &[
        unset(
            "base_url",
            field!(ValueKind::Url, some xco.base_url, |input| parse_http_url(&input.text()?)),
            "Address of the XCO API, such as `https://xco-api.purse-sandbox.com`. A worker needs it. There is no default, so \
             that customers' data goes nowhere by accident.",
        ),
        unset(
            "token_url",
            field!(ValueKind::Url, some xco.token_url, |input| parse_http_url(&input.text()?)),
            "Address that issues access tokens (OAuth 2, `client_credentials`). A worker needs it.",
        ),
        unset("client_id", text!(some xco.client_id), "OAuth client id. A worker needs it."),
        secret(unset(
            "client_secret",
            secret_text!(some xco.client_secret),
            "OAuth client secret. A worker needs it, or `xco.client_secret_file` instead.",
        )),
        unset(
            "client_secret_file",
            Field {
                kind: ValueKind::File,
                set: |draft, _, input| {
                    draft.client_secret_file = Some(input.text()?);
                    Ok(())
                },
            },
            "File with the OAuth client secret. Line breaks at its end are ignored.",
        ),
        secret(unset(
            "api_key",
            secret_text!(some xco.api_key),
            "API key, sent as the header `x-api-key`. Set it if Purse gave you one.",
        )),
        unset(
            "api_key_file",
            Field {
                kind: ValueKind::File,
                set: |draft, _, input| {
                    draft.api_key_file = Some(input.text()?);
                    Ok(())
                },
            },
            "File with the API key. Line breaks at its end are ignored.",
        ),
        unset(
            "merchant_id",
            field!(ValueKind::Other("UUID"), some xco.merchant_id, |input| input.merchant()),
            "Merchant of the jobs that name no `merchant_id`.",
        ),
        key("scope", "\"xco-api\"", text!(xco.scope), "OAuth scope to request with the token."),
        key(
            "token_auth",
            "\"body\"",
            word!([("body", TokenAuth::Body), ("basic", TokenAuth::Basic)], xco.token_auth),
            "How the client authenticates to `xco.token_url`: `body` sends id and secret as form fields, `basic` uses HTTP Basic.",
        ),
        key(
            "timeout",
            "\"10s\"",
            duration!(ms(100), minutes(5), xco.timeout),
            "Maximum time of one call to XCO, connecting included.",
        ),
        key(
            "connect_timeout",
            "\"3s\"",
            duration!(ms(100), minutes(1), xco.connect_timeout),
            "Maximum time to connect to XCO. It is at most a third of `xco.timeout`; all addresses of a host name share it.",
        ),
        key(
            "already_exists_types",
            "[]",
            Field {
                kind: ValueKind::Other("array of URIs"),
                set: |draft, _, input| {
                    draft.config.xco.already_exists_types = input.each(Separator::Comma, text_item)?;
                    Ok(())
                },
            },
            "Problem types in an answer to `CreateUser` that mean that the customer has an account already. An answer 409 always \
             means this.",
        ),
        key(
            "invalid_code_statuses",
            "[400, 401, 403, 404, 422]",
            Field {
                kind: ValueKind::Other("array of HTTP statuses, 400 to 499"),
                set: |draft, _, input| {
                    draft.config.xco.invalid_code_statuses = input.each(Separator::Comma, |i| i.integer(400..=499))?;
                    Ok(())
                },
            },
            "HTTP statuses that mean, in an answer to `VerifyOtp`, that the code is wrong.",
        ),
        key(
            "allow_insecure_http",
            "false",
            boolean!(xco.allow_insecure_http),
            "If true, `http://` URLs to other machines are allowed. Secrets and customers' data are then sent unencrypted.",
        ),
        key(
            "max_response_bytes",
            "262144",
            integer!(1024..=16 << 20, xco.max_response_bytes),
            "Maximum size of an answer. A longer one is an error.",
        ),
        key(
            "pool_idle",
            "256",
            integer!(0..=65_536, xco.pool_idle),
            "Maximum number of idle connections kept open for each host.",
        ),
        key(
            "connection_max_age",
            "\"2m\"",
            duration!(seconds(1), days(1), xco.connection_max_age),
            "Maximum age of a connection that takes further calls. If XCO's name resolves to a new address, calls go there \
             within this time.",
        ),
        unset(
            "tls.ca_file",
            file!(some xco.tls.ca_file),
            "PEM file with the certificate authorities (CA) to trust for XCO, instead of the system's and those of \
             `SSL_CERT_FILE`. It is read again when it changes.",
        ),
        unset(
            "tls.cert_file",
            file!(some xco.tls.cert_file),
            "PEM file with the client certificate to show to XCO. It is read again when it changes.",
        ),
        unset(
            "tls.key_file",
            file!(some xco.tls.key_file),
            "PEM file with the private key of that client certificate. It is read again when it changes.",
        ),
    ],
};
