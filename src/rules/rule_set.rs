//! All rules, and the decision about one job.

use super::{Rule, RuleAction, RuleOrigin, Selector};
use crate::contract::{CallerId, CustomerReference, Job, JobType, Lane};
use std::collections::{HashMap, HashSet};

/// The properties of a job that a rule can select by.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The lane of the job.
    pub lane: Lane,
    /// The type of the job.
    pub job_type: JobType,
    /// The effective caller of the job.
    pub caller: Option<&'a CallerId>,
    /// The reference of the customer whom the job is about.
    pub customer: Option<&'a CustomerReference>,
    /// The batch of the job.
    pub batch: Option<&'a str>,
    /// The job's own id, or its default id.
    pub id: &'a str,
    /// When the job was enqueued, in milliseconds on Redis's clock.
    pub enqueued_at_ms: u64,
}

impl<'a> Subject<'a> {
    /// Collects the properties of a job.
    pub fn of(job: &'a Job, id: &'a str, lane: Lane, enqueued_at_ms: u64) -> Self {
        Self {
            lane,
            job_type: job.job_type,
            caller: job.effective_caller.as_ref(),
            customer: job.customer_reference.as_ref().or_else(|| job.args.customer_reference()),
            batch: job.batch.as_deref(),
            id,
            enqueued_at_ms,
        }
    }

    /// Returns the selector of this shape that selects this job. `None` if the job lacks a field of the shape.
    fn selector(&self, shape: Shape) -> Option<Selector> {
        let text = |bit: u8, value: Option<&str>| match (shape.has(bit), value) {
            (false, _) => Some(None),
            (true, Some(value)) => Some(Some(value.to_owned())),
            (true, None) => None,
        };
        Some(Selector {
            lane: shape.has(Shape::LANE).then_some(self.lane),
            job_type: shape.has(Shape::TYPE).then_some(self.job_type),
            caller: text(Shape::CALLER, self.caller.map(CallerId::as_str))?,
            customer: text(Shape::CUSTOMER, self.customer.map(CustomerReference::as_str))?,
            batch: text(Shape::BATCH, self.batch)?,
            id: text(Shape::ID, Some(self.id))?,
        })
    }
}

/// The set of fields that a selector has, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape(u8);

impl Shape {
    const LANE: u8 = 1;
    const TYPE: u8 = 2;
    const CALLER: u8 = 4;
    const CUSTOMER: u8 = 8;
    const BATCH: u8 = 16;
    const ID: u8 = 32;

    fn of(selector: &Selector) -> Self {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        Self(
            bit(selector.lane.is_some(), Self::LANE)
                | bit(selector.job_type.is_some(), Self::TYPE)
                | bit(selector.caller.is_some(), Self::CALLER)
                | bit(selector.customer.is_some(), Self::CUSTOMER)
                | bit(selector.batch.is_some(), Self::BATCH)
                | bit(selector.id.is_some(), Self::ID),
        )
    }

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// What the rules require for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// No rule selects the job.
    Go,
    /// The job completes as cancelled, by this order.
    Cancel(&'a RuleOrigin),
    /// The job's lane is paused by this order: the job stays where it is.
    LanePaused(&'a RuleOrigin),
    /// The job is delayed until the order ends. The text is the name of the rule.
    Pause(String, &'a RuleOrigin),
}

/// All rules. A decision costs one look-up for each shape of rule that exists (63 at most), not for each rule.
#[derive(Debug, Default)]
pub struct RuleSet {
    pauses: Table,
    cancels: Table,
}

#[derive(Debug, Default)]
struct Table {
    orders: HashMap<Selector, RuleOrigin>,
    shapes: HashSet<Shape>,
}

impl Table {
    fn insert(&mut self, selector: Selector, order: RuleOrigin) {
        self.shapes.insert(Shape::of(&selector));
        self.orders.insert(selector, order);
    }

    fn about<'a>(&'a self, subject: &'a Subject<'_>) -> impl Iterator<Item = (Selector, &'a RuleOrigin)> {
        let selectors = self.shapes.iter().filter_map(|shape| subject.selector(*shape));
        selectors.filter_map(|selector| self.orders.get(&selector).map(|order| (selector, order)))
    }
}

impl FromIterator<Rule> for RuleSet {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        let mut all = Self::default();
        for Rule { verb, selector, order } in rules {
            match verb {
                RuleAction::Pause => all.pauses.insert(selector, order),
                RuleAction::Cancel => all.cancels.insert(selector, order),
            }
        }
        all
    }
}

impl RuleSet {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.pauses.orders.is_empty() && self.cancels.orders.is_empty()
    }

    /// Decides about a job at `now_ms`. A cancellation takes precedence over any pause. Of several pauses, the one that
    /// ends last counts.
    pub fn decide<'a>(&'a self, subject: &'a Subject<'_>, now_ms: u64) -> Decision<'a> {
        if let Some(order) = self.cancels(subject, now_ms) {
            return Decision::Cancel(order);
        }
        if let Some(order) = self.lane_paused(subject.lane, now_ms) {
            return Decision::LanePaused(order);
        }
        let pauses = self.pauses.about(subject).filter(|(_, order)| order.holds(now_ms));
        match pauses.max_by_key(|(_, order)| order.until_ms.unwrap_or(u64::MAX)) {
            Some((selector, order)) => Decision::Pause(Rule::name(RuleAction::Pause, &selector), order),
            None => Decision::Go,
        }
    }

    /// Returns the order that cancels a job, if there is one.
    pub fn cancels<'a>(&'a self, subject: &'a Subject<'_>, now_ms: u64) -> Option<&'a RuleOrigin> {
        let mut orders = self.cancels.about(subject).map(|(_, order)| order);
        orders.find(|order| order.holds(now_ms) && subject.enqueued_at_ms <= order.at_ms)
    }

    /// When the latest cancellation was ordered that may cover jobs of a lane. It covers no job that was enqueued later.
    pub fn latest_cancellation_ms(&self, lane: Lane) -> Option<u64> {
        let orders = self.cancels.orders.iter().filter(|(selector, _)| selector.lane.is_none_or(|of| of == lane));
        orders.map(|(_, order)| order.at_ms).max()
    }

    /// Returns the order that pauses a whole lane: a pause of this lane or of everything.
    pub fn lane_paused(&self, lane: Lane, now_ms: u64) -> Option<&RuleOrigin> {
        let whole = [Selector { lane: Some(lane), ..Selector::default() }, Selector::default()];
        let orders = whole.iter().filter_map(|selector| self.pauses.orders.get(selector));
        orders.filter(|order| order.holds(now_ms)).max_by_key(|order| order.until_ms.unwrap_or(u64::MAX))
    }

    /// Whether the pause with this name is in force.
    pub fn pause_holds(&self, name: &str, now_ms: u64) -> bool {
        let selector = name.strip_prefix("pause ").and_then(|selector| serde_json::from_str(selector).ok());
        selector
            .and_then(|selector: Selector| self.pauses.orders.get(&selector))
            .is_some_and(|order| order.holds(now_ms))
    }

    /// Returns all rules, pauses first.
    pub fn all(&self) -> impl Iterator<Item = (RuleAction, &Selector, &RuleOrigin)> {
        let pauses = self.pauses.orders.iter().map(|(selector, order)| (RuleAction::Pause, selector, order));
        pauses.chain(self.cancels.orders.iter().map(|(selector, order)| (RuleAction::Cancel, selector, order)))
    }

    /// Returns the rules that have ended.
    pub fn over(&self, now_ms: u64) -> Vec<Rule> {
        let over = self.all().filter(|(_, _, order)| !order.holds(now_ms));
        over.map(|(verb, selector, order)| Rule { verb, selector: selector.clone(), order: order.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::contract::{ParseContext, parse_job};

    fn order(at_ms: u64, until_ms: Option<u64>) -> RuleOrigin {
        RuleOrigin { who: "ada".to_owned(), from: "box".to_owned(), at_ms, until_ms, reason: None }
    }

    fn rules(rules: &[(RuleAction, &str, RuleOrigin)]) -> RuleSet {
        let rule = |(verb, selector, order): &(RuleAction, &str, RuleOrigin)| Rule {
            verb: *verb,
            selector: serde_json::from_str(selector).unwrap(),
            order: order.clone(),
        };
        rules.iter().map(rule).collect()
    }

    fn job() -> Job {
        let text = br#"{"id":"j","type":"CheckUser","caller_id":"c","customer_reference":"r","batch":"b",
            "args":{"email":"a@example.com"}}"#;
        let context = ParseContext { allow_missing_caller_id: false, default_id: "bulk:0:1-0", generation: 0 };
        parse_job(text, context).ok().unwrap()
    }

    #[test]
    fn a_rule_is_about_the_jobs_that_fit_all_of_it() {
        let job = job();
        let subject = Subject::of(&job, "j", Lane::Bulk, 100);
        let fits = [
            "{}",
            r#"{"lane":"bulk"}"#,
            r#"{"type":"CheckUser"}"#,
            r#"{"caller":"c"}"#,
            r#"{"customer":"r"}"#,
            r#"{"batch":"b"}"#,
            r#"{"id":"j"}"#,
            r#"{"lane":"bulk","type":"CheckUser","caller":"c","customer":"r","batch":"b","id":"j"}"#,
        ];
        let fits_not = [
            r#"{"lane":"interactive"}"#,
            r#"{"type":"StartOtp"}"#,
            r#"{"caller":"d"}"#,
            r#"{"batch":"c"}"#,
            r#"{"lane":"bulk","type":"StartOtp"}"#,
            r#"{"id":"i"}"#,
        ];
        for selector in fits {
            let rules = rules(&[(RuleAction::Cancel, selector, order(100, None))]);
            assert!(matches!(rules.decide(&subject, 200), Decision::Cancel(_)), "{selector}");
        }
        for selector in fits_not {
            let rules = rules(&[
                (RuleAction::Cancel, selector, order(100, None)),
                (RuleAction::Pause, selector, order(1, None)),
            ]);
            assert_eq!(rules.decide(&subject, 200), Decision::Go, "{selector}");
        }
    }

    #[test]
    fn a_cancellation_is_about_what_was_enqueued_before_it_and_comes_first() {
        let job = job();
        let rules = rules(&[
            (RuleAction::Pause, "{}", order(1, None)),
            (RuleAction::Cancel, r#"{"batch":"b"}"#, order(100, Some(1000))),
        ]);
        let (before, after) = (Subject::of(&job, "j", Lane::Bulk, 100), Subject::of(&job, "j", Lane::Bulk, 101));
        assert!(matches!(rules.decide(&before, 500), Decision::Cancel(_)));
        assert!(matches!(rules.decide(&after, 500), Decision::LanePaused(_)));
        assert!(matches!(rules.decide(&before, 1000), Decision::LanePaused(_)), "the rule is over");
        assert_eq!(rules.over(1000).len(), 1);
    }

    #[test]
    fn of_several_pauses_the_last_to_end_counts() {
        let job = job();
        let subject = Subject::of(&job, "j", Lane::Bulk, 100);
        let rules = rules(&[
            (RuleAction::Pause, r#"{"caller":"c"}"#, order(1, Some(300))),
            (RuleAction::Pause, r#"{"type":"CheckUser"}"#, order(1, Some(400))),
        ]);
        let Decision::Pause(name, order) = rules.decide(&subject, 200) else { panic!("a pause") };
        assert_eq!((name.as_str(), order.until_ms), (r#"pause {"type":"CheckUser"}"#, Some(400)));
        assert!(rules.pause_holds(&name, 399) && !rules.pause_holds(&name, 400));
        assert!(!rules.pause_holds("pause {}", 1) && !rules.pause_holds("nonsense", 1));
        assert_eq!(rules.decide(&subject, 400), Decision::Go);
    }

    #[test]
    fn a_lane_is_paused_by_its_own_rule_or_by_that_of_everything() {
        let lane = rules(&[(RuleAction::Pause, r#"{"lane":"bulk"}"#, order(1, None))]);
        assert!(lane.lane_paused(Lane::Bulk, 5).is_some() && lane.lane_paused(Lane::Interactive, 5).is_none());
        let all = rules(&[(RuleAction::Pause, "{}", order(1, Some(5)))]);
        assert!(all.lane_paused(Lane::Interactive, 4).is_some() && all.lane_paused(Lane::Bulk, 5).is_none());
    }
}
