//! What Redis says of itself (`INFO`), and what of that forbids or endangers work.

use super::Finding;
use redis::Value;
use std::collections::HashMap;

/// `INFO` of one server, by field.
#[derive(Debug, Clone, Default)]
pub struct ServerInfo(HashMap<String, String>);

impl ServerInfo {
    /// From the text.
    pub fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// From an answer: a cluster answers for each of its nodes.
    pub fn of(answer: &Value) -> Vec<Self> {
        match answer {
            Value::Map(nodes) => nodes.iter().flat_map(|(_, info)| Self::of(info)).collect(),
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().map(Self::parse).into_iter().collect(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => vec![Self::parse(text)],
            _ => Vec::new(),
        }
    }

    /// A field's text; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field's number; 0 where there is none.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }

    /// What a worker must know of the server.
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
