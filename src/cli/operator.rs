//! Who gives the order, for the audit stream.

use crate::{
    control::Order,
    queue::{Link, audit},
};
use redis::RedisResult;
use serde_json::Value;

/// The person behind a command, as far as the machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operator {
    who: String,
    from: String,
}

impl Operator {
    /// From the process's environment: `XCO_OPERATOR` (for tools that act for somebody), else who called `sudo`, else the
    /// user; and the machine, with the address behind it where there is one.
    pub(super) fn of_this_process() -> Self {
        Self::of(|name| std::env::var(name).ok(), &hostname())
    }

    fn of(env: impl Fn(&str) -> Option<String>, host: &str) -> Self {
        let who =
            ["XCO_OPERATOR", "SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(&env).find(|who| !who.is_empty());
        let client = env("SSH_CONNECTION").and_then(|ssh| ssh.split(' ').next().map(str::to_owned));
        let from = client.filter(|client| !client.is_empty()).map(|client| format!("{host} ({client})"));
        Self {
            who: bounded(&who.unwrap_or_else(|| "unknown".to_owned())),
            from: bounded(&from.unwrap_or_else(|| host.to_owned())),
        }
    }

    /// The name.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// An order of this person's, given at `at_ms`.
    pub(super) fn order(&self, at_ms: u64, until_ms: Option<u64>) -> Order {
        Order { who: self.who.clone(), from: self.from.clone(), at_ms, until_ms }
    }

    /// Records what is done in this person's name.
    pub(super) async fn record(
        &self,
        link: &mut Link,
        namespace: &str,
        action: &str,
        what: &Value,
        count: u64,
    ) -> RedisResult<()> {
        let what = what.to_string();
        let action = audit::Action { who: &self.who, from: &self.from, action, what: &what, count };
        audit::record(link, namespace, action).await
    }
}

fn hostname() -> String {
    let file = || std::fs::read_to_string("/etc/hostname").ok();
    let name = std::env::var("HOSTNAME").ok().or_else(file).unwrap_or_default();
    if name.trim().is_empty() { "this host".to_owned() } else { name.trim().to_owned() }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(env: &[(&str, &str)]) -> Operator {
        let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Operator::of(find, "box")
    }

    #[test]
    fn an_operator_is_the_person_behind_sudo_and_ssh() {
        let found = operator(&[("USER", "root"), ("SUDO_USER", "ada"), ("SSH_CONNECTION", "192.0.2.7 1 10.0.0.1 22")]);
        assert_eq!((found.who.as_str(), found.from.as_str()), ("ada", "box (192.0.2.7)"));
        let found = operator(&[("XCO_OPERATOR", "bot\n7"), ("USER", "root")]);
        assert_eq!((found.who.as_str(), found.from.as_str()), ("bot7", "box"));
        assert_eq!(operator(&[]).who, "unknown");
    }
}
