//! Operators' rules: `rule_set.lua`, `rule_drop.lua`.

use super::{Facts, Scene, Stage};
use rand::Rng;
use xco_worker::{
    contract::Lane,
    queue::{Link, rules},
    rules::{Rule, RuleAction, RuleOrigin, Selector},
};

fn rule(lane: Lane) -> Rule {
    let order = RuleOrigin { who: "ada".to_owned(), from: "box".to_owned(), at_ms: 7, until_ms: None, reason: None };
    Rule { verb: RuleAction::Pause, selector: Selector { lane: Some(lane), ..Selector::default() }, order }
}

async fn other_rule(stage: &Stage) {
    let other = rule(Lane::Interactive);
    let name = Rule::name(other.verb, &other.selector);
    let mut set = redis::cmd("HSET");
    stage.run::<()>(set.arg(&stage.keys.control).arg(name).arg(other.value()).arg("v").arg("1.1")).await;
}

#[derive(Debug)]
pub(crate) struct SettingRules;

impl Scene for SettingRules {
    async fn prepare(stage: &mut Stage) -> Self {
        if stage.rng.random_bool(0.5) {
            other_rule(stage).await;
        }
        Self
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let set = rules::set_rule(link, &stage.keys, &rule(Lane::Bulk)).await;
        set.map(|_| true).map_err(|error| error.to_string())
    }

    fn check(&self, calm: &Facts) {
        let control = calm.get("", "control");
        assert!(control.contains("bulk") && control.ends_with("a version"), "{control}");
    }
}

#[derive(Debug)]
pub(crate) struct DroppingRules;

impl Scene for DroppingRules {
    async fn prepare(stage: &mut Stage) -> Self {
        if stage.rng.random_bool(0.5) {
            other_rule(stage).await;
        }
        let dropped = rule(Lane::Bulk);
        let name = Rule::name(dropped.verb, &dropped.selector);
        let mut set = redis::cmd("HSET");
        stage.run::<()>(set.arg(&stage.keys.control).arg(name).arg(dropped.value()).arg("v").arg("1.2")).await;
        Self
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let bulk = rule(Lane::Bulk);
        let dropped = rules::drop_rule(link, &stage.keys, &Rule::name(bulk.verb, &bulk.selector), None).await;
        dropped.map(|_| true).map_err(|error| error.to_string())
    }

    fn check(&self, calm: &Facts) {
        assert!(!calm.get("", "control").contains("bulk"));
    }
}
