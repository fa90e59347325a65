//! `gateway.tokens` and `gateway.ticket_keys`: arrays of tables.

use super::{
    GatewayRole, GatewayToken,
    value::{Input, Problems, Separator, Value, quote},
};
use std::collections::BTreeSet;

const FIELDS: [&str; 4] = ["name", "sha256", "roles", "merchants"];

/// Reads all tokens, or every fault of all of them.
pub(super) fn read_tokens(input: &Input<'_>) -> Result<Vec<GatewayToken>, Problems> {
    let mut faults = Vec::new();
    let mut tokens = Vec::new();
    let mut names = BTreeSet::new();
    for (index, item) in input.list(Separator::Comma)?.iter().enumerate() {
        let number = index + 1;
        let Value::Table(fields) = item else {
            faults.push(format!("token {number}: a table of name, sha256, roles and merchants is wanted"));
            continue;
        };
        match read_token(fields) {
            Ok(token) if !names.insert(token.name.clone()) => {
                faults.push(format!("token {number}: its name is another token's too"));
            }
            Ok(token) => tokens.push(token),
            Err(Problems(of_token)) => faults.extend(of_token.into_iter().map(|f| format!("token {number}: {f}"))),
        }
    }
    if faults.is_empty() { Ok(tokens) } else { Err(Problems(faults)) }
}

fn read_token(fields: &[(String, Value)]) -> Result<GatewayToken, Problems> {
    let mut faults = Vec::new();
    for (name, _) in fields.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
        faults.push(format!("unknown field {}: known are {}", quote(name), FIELDS.join(", ")));
    }
    let find = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    let text = |name: &str| match find(name) {
        Some(value) => Input { value, secret: true }.text().map_err(|fault| format!("{name}: {fault}")),
        None => Err(format!("{name} is missing")),
    };
    let list = |name: &str| match find(name) {
        Some(value) => Input { value, secret: true }.list(Separator::Comma).map_err(|fault| format!("{name}: {fault}")),
        None => Ok(Vec::new()),
    };
    let name = text("name").and_then(token_name).map_err(|fault| faults.push(fault)).unwrap_or_default();
    let digest = text("sha256")
        .and_then(|digest| decode_hex(&digest).ok_or_else(|| "sha256: 64 hexadecimal digits are wanted".to_owned()));
    let sha256 = digest.map_err(|fault| faults.push(fault)).unwrap_or_default();
    let mut roles = Vec::new();
    for role in list("roles").unwrap_or_else(|fault| {
        faults.push(fault);
        Vec::new()
    }) {
        match (Input { value: &role, secret: true }).text() {
            Ok(role) => match GatewayRole::ALL.into_iter().find(|known| known.as_str() == role) {
                Some(role) => roles.push(role),
                None => faults.push(known_roles("roles")),
            },
            Err(_) => faults.push(known_roles("roles")),
        }
    }
    if roles.is_empty() && faults.is_empty() {
        faults.push(known_roles("roles is missing or empty"));
    }
    let mut merchants = Vec::new();
    for merchant in list("merchants").unwrap_or_else(|fault| {
        faults.push(fault);
        Vec::new()
    }) {
        match (Input { value: &merchant, secret: true }).merchant() {
            Ok(merchant) => merchants.push(merchant),
            Err(fault) => faults.push(format!("merchants: {fault}")),
        }
    }
    if faults.is_empty() { Ok(GatewayToken { name, sha256, roles, merchants }) } else { Err(Problems(faults)) }
}

fn known_roles(what: &str) -> String {
    format!("{what}: known are {}", GatewayRole::ALL.map(GatewayRole::as_str).join(", "))
}

/// Checks the name of a token's user. It stands in the audit and on pages.
fn token_name(name: String) -> Result<String, String> {
    if name.chars().count() <= 64 { Ok(name) } else { Err("name: at most 64 characters".to_owned()) }
}

/// The 32 bytes of 64 hexadecimal digits.
pub(super) fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A ticket key whose file is not read yet.
pub(super) struct TicketKeyFile {
    pub(super) id: String,
    pub(super) file: String,
}

/// Reads the names of all ticket keys and of their files, or every fault of all of them.
pub(super) fn read_ticket_keys(input: &Input<'_>) -> Result<Vec<TicketKeyFile>, Problems> {
    const FIELDS: [&str; 2] = ["id", "secret_file"];
    let (mut faults, mut keys, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, item) in input.list(Separator::Comma)?.iter().enumerate() {
        let number = index + 1;
        let Value::Table(fields) = item else {
            faults.push(format!("key {number}: a table of id and secret_file is wanted"));
            continue;
        };
        for (name, _) in fields.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
            faults.push(format!("key {number}: unknown field {}: known are id, secret_file", quote(name)));
        }
        let text = |name: &str| match fields.iter().find(|(field, _)| field == name) {
            Some((_, value)) => Input { value, secret: false }.text().map_err(|fault| format!("{name}: {fault}")),
            None => Err(format!("{name} is missing")),
        };
        let id = text("id").and_then(|id| {
            let is_id = id.len() <= 16 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            if is_id { Ok(id) } else { Err("id: 1 to 16 of A-Z a-z 0-9 _ - are wanted".to_owned()) }
        });
        match (id, text("secret_file")) {
            (Ok(id), Ok(_)) if !ids.insert(id.clone()) => {
                faults.push(format!("key {number}: its id is another key's too"));
            }
            (Ok(id), Ok(file)) => keys.push(TicketKeyFile { id, file }),
            (id, file) => {
                let of_key = [id.err(), file.err()].into_iter().flatten();
                faults.extend(of_key.map(|fault| format!("key {number}: {fault}")));
            }
        }
    }
    if keys.len() > 16 {
        faults.push("at most 16 keys".to_owned());
    }
    if faults.is_empty() { Ok(keys) } else { Err(Problems(faults)) }
}
