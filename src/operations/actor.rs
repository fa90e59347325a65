//! Who acts.

use crate::{
    contract::is_unprintable,
    queue::{Link, audit},
    rules::RuleOrigin,
};
use redis::RedisResult;
use serde_json::Value;

/// The longest name or origin that is kept, in characters.
const LONGEST: usize = 120;

/// The person or tool on whose behalf an operation runs, as the audit stream names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    name: String,
    from: String,
}

impl Actor {
    /// `name` is the person's or tool's, `from` a host or an address. Control characters and those that change the direction of text are removed, and each is cut to 120
    /// characters.
    pub fn new(name: &str, from: &str) -> Self {
        Self { name: bounded(name), from: bounded(from) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where they act from.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// An order of theirs, given at `at_ms` on Redis's clock, until `until_ms` if it ends by itself.
    pub fn order(&self, at_ms: u64, until_ms: Option<u64>) -> RuleOrigin {
        RuleOrigin { who: self.name.clone(), from: self.from.clone(), at_ms, until_ms, reason: None }
    }

    /// Writes an action of theirs into the audit stream. `what` must hold no personal data; `count` is how many jobs, dead letters
    /// or rules it is about.
    ///
    /// # Errors
    /// Redis's. An action that cannot be recorded must not begin.
    pub async fn record(
        &self,
        link: &mut Link,
        namespace: &str,
        action: &str,
        what: &Value,
        count: u64,
    ) -> RedisResult<()> {
        let what = what.to_string();
        let action = audit::Action { who: &self.name, from: &self.from, action, what: &what, count };
        audit::record(link, namespace, action).await
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !is_unprintable(*c)).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_line() {
        let actor = Actor::new("bot\n7", &"x".repeat(500));
        assert_eq!((actor.name(), actor.from().len()), ("bot7", LONGEST));
    }
}
