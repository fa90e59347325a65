//! `gateway.tokens`: an array of tables.

use super::{
    GatewayToken,
    value::{Input, Problems, Separator, Value, quote},
};
use std::collections::BTreeSet;

const ROLES: [&str; 3] = ["enqueue", "read", "operate"];
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
    let mut keep = |result: Result<String, String>| result.map_err(|fault| faults.push(fault)).unwrap_or_default();
    let name = keep(text("name"));
    let sha256 = keep(text("sha256").and_then(|digest| {
        let valid = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        if valid { Ok(digest.to_ascii_lowercase()) } else { Err("sha256: 64 hexadecimal digits are wanted".to_owned()) }
    }));
    let mut roles = Vec::new();
    for role in list("roles").unwrap_or_else(|fault| {
        faults.push(fault);
        Vec::new()
    }) {
        match (Input { value: &role, secret: true }).text() {
            Ok(role) if ROLES.contains(&role.as_str()) => roles.push(role),
            _ => faults.push(format!("roles: known are {}", ROLES.join(", "))),
        }
    }
    if roles.is_empty() && faults.is_empty() {
        faults.push(format!("roles is missing or empty: known are {}", ROLES.join(", ")));
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
