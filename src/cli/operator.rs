//! Who gives the order, for the audit stream.

use crate::operations::Actor;

/// The person behind this process: `XCO_OPERATOR` (for tools that act for somebody), else who called `sudo`, else the user; and the
/// machine, with the address of the SSH client where there is one.
pub(super) fn this_operator() -> Actor {
    operator(|name| std::env::var(name).ok(), &hostname())
}

fn operator(env: impl Fn(&str) -> Option<String>, host: &str) -> Actor {
    let name =
        ["XCO_OPERATOR", "SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(&env).find(|name| !name.is_empty());
    let client = env("SSH_CONNECTION").and_then(|ssh| ssh.split(' ').next().map(str::to_owned));
    let from = client.filter(|client| !client.is_empty()).map(|client| format!("{host} ({client})"));
    Actor::new(name.as_deref().unwrap_or("unknown"), from.as_deref().unwrap_or(host))
}

fn hostname() -> String {
    let file = || std::fs::read_to_string("/etc/hostname").ok();
    let name = std::env::var("HOSTNAME").ok().or_else(file).unwrap_or_default();
    if name.trim().is_empty() { "this host".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(env: &[(&str, &str)]) -> Actor {
        let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        operator(find, "box")
    }

    #[test]
    fn an_operator_is_the_person_behind_sudo_and_ssh() {
        let actor = found(&[("USER", "root"), ("SUDO_USER", "ada"), ("SSH_CONNECTION", "192.0.2.7 1 10.0.0.1 22")]);
        assert_eq!((actor.name(), actor.from()), ("ada", "box (192.0.2.7)"));
        let actor = found(&[("XCO_OPERATOR", "bot\n7"), ("USER", "root")]);
        assert_eq!((actor.name(), actor.from()), ("bot7", "box"));
        assert_eq!(found(&[]).name(), "unknown");
    }
}
