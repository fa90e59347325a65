//! The Redis users of `deploy/redis/users.acl`, with passwords and for the namespaces of tests.

/// `deploy/redis/users.acl` as a test's server loads it.
pub(crate) fn acl_file() -> String {
    let lines = include_str!("../../../deploy/redis/users.acl").lines().map(|line| {
        let mut words = line.splitn(3, ' ');
        let (user, name, rules) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        // Each test has a namespace of its own.
        format!("{user} {name} >{} {}\n", password(name), rules.replace("~{xco:*}", "~{*:*}"))
    });
    lines.collect()
}

fn password(user: &str) -> String {
    format!("{user}-password")
}

/// The URL (of a server, a proxy or a Sentinel) with the credentials of `user`.
pub(crate) fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{user}:{}@{rest}", password(user))
}

/// Creates the users on a server that was started without the file. Returns false if that is not allowed.
pub(crate) fn create_users(url: &str) -> bool {
    let Ok(mut connection) = redis::Client::open(url).and_then(|client| client.get_connection()) else { return false };
    acl_file().lines().all(|line| {
        let rules = line.split(' ').skip(1);
        redis::cmd("ACL").arg("SETUSER").arg(rules.collect::<Vec<_>>()).query::<()>(&mut connection).is_ok()
    })
}
