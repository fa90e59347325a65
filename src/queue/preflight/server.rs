//! What Redis reports about itself (`INFO`), and which of it forbids or endangers work.

use super::Finding;
use redis::Value;
use std::collections::HashMap;

/// The fields of one server's `INFO`.
#[derive(Debug, Clone, Default)]
pub struct ServerInfo(HashMap<String, String>);

impl ServerInfo {
    /// Parses the text of `INFO`.
    pub fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Parses the answer to `INFO`. A cluster answers once for each node.
    pub fn of(answer: &Value) -> Vec<Self> {
        match answer {
            Value::Map(nodes) => nodes.iter().flat_map(|(_, info)| Self::of(info)).collect(),
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().map(Self::parse).into_iter().collect(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => vec![Self::parse(text)],
            _ => Vec::new(),
        }
    }

    /// Returns a field as text, empty if it is missing.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Returns a field as a number, 0 if it is missing.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }

    /// Returns the findings about eviction and persistence.
    pub(super) fn findings(&self, strict: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let policy = self.get("maxmemory_policy");
        if !policy.is_empty() && policy != "noeviction" {
            findings.push(Finding::Evicts { policy: policy.chars().take(40).collect(), strict });
        }
        if self.get("aof_enabled") == "0" {
            findings.push(Finding::NotKept);
        }
        findings
    }
}
