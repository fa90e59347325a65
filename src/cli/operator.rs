//! Who gives the order, for the audit stream.

use crate::operations::Actor;
use nix::unistd::{Uid, User};

/// The person behind this process: `XCO_OPERATOR` (for tools that act for somebody), else the caller of `sudo`, else the user; and
/// the machine, with the address of the SSH client if there is one. A person that `XCO_OPERATOR` names is not proven, so the
/// system's user is recorded before the machine: `deploy@host`.
pub(super) fn this_operator() -> Actor {
    operator(|name| std::env::var(name).ok(), &hostname(), &system_user())
}

/// The name of the user that this process runs as, from the system and not from the environment.
fn system_user() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

fn operator(env: impl Fn(&str) -> Option<String>, host: &str, user: &str) -> Actor {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let host = if env("XCO_OPERATOR").is_some() { format!("{user}@{host}") } else { host.to_owned() };
    let name = ["XCO_OPERATOR", "SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(env);
    let client = env("SSH_CONNECTION").and_then(|ssh| ssh.split(' ').next().map(str::to_owned));
    let from = client.filter(|client| !client.is_empty()).map(|client| format!("{host} ({client})"));
    Actor::new(name.as_deref().unwrap_or("unknown"), from.as_deref().unwrap_or(&host))
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
        operator(find, "box", "deploy")
    }

    #[test]
    fn an_operator_is_the_person_behind_sudo_and_ssh() {
        let actor = found(&[("USER", "root"), ("SUDO_USER", "ada"), ("SSH_CONNECTION", "192.0.2.7 1 10.0.0.1 22")]);
        assert_eq!((actor.name(), actor.from()), ("ada", "box (192.0.2.7)"));
        assert_eq!(found(&[]).name(), "unknown");
    }

    #[test]
    fn a_name_from_the_environment_is_recorded_with_the_systems_user() {
        let actor = found(&[("XCO_OPERATOR", "bot\n7\u{202e}"), ("USER", "root")]);
        assert_eq!((actor.name(), actor.from()), ("bot7", "deploy@box"));
        let actor = found(&[("XCO_OPERATOR", "ada"), ("SSH_CONNECTION", "192.0.2.7 1 10.0.0.1 22")]);
        assert_eq!((actor.name(), actor.from()), ("ada", "deploy@box (192.0.2.7)"));
        assert_eq!(found(&[("XCO_OPERATOR", ""), ("USER", "root")]).from(), "box");
    }
}
