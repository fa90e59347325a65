//! `xco-worker cancel`

use super::{
    Context, Exit, UsageError,
    locate::{self, Found, Locator, Place},
    operator::this_operator,
    output::say,
    print_json, print_line,
    redis_access::{connect, unreachable},
    values::parse_job_type,
};
use crate::{
    contract::{JobType, Lane, Origin},
    control::{Rule, Rules, Selector, Subject, Verb},
    jobs::JobState,
    operations::{Actor, Error},
    queue::{
        Keys, Link,
        control::{self, MAX_CALL_UP, Parked},
        upkeep,
    },
};
use clap::Args;
use redis::RedisResult;
use serde_json::json;
use std::{io::IsTerminal, time::Duration};

/// An order that nothing waits for any more is forgotten by itself; at the latest after this long.
const LIFE_MS: u64 = 30 * 86_400_000;

/// By then every worker knows a new order: what it parks from then on, it has looked at in that light.
const KNOWN_TO_ALL: Duration = Duration::from_secs(1);

/// Parked jobs looked at in one step.
const STEP: usize = 500;

/// Flags of `cancel`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker cancel signup-42\n  \
    xco-worker cancel --batch spring-import\n  \
    xco-worker cancel --lane bulk --type CreateUser\n  \
    xco-worker cancel --caller 203.0.113.9")]
pub struct CancelArgs {
    /// Jobs, by their ids
    #[arg(value_name = "ID", conflicts_with_all = ["batch", "lane", "job_type", "caller", "customer"])]
    pub ids: Vec<String>,
    /// Jobs of that batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Jobs of that lane: interactive or bulk
    #[arg(long, value_name = "LANE")]
    pub lane: Option<Lane>,
    /// Jobs of that type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Jobs of that caller (`caller_id`, else the customer reference)
    #[arg(long, value_name = "ID")]
    pub caller: Option<String>,
    /// Jobs about the customer with that reference
    #[arg(long, value_name = "REFERENCE")]
    pub customer: Option<String>,
}

/// Cancels jobs that were enqueued up to now.
pub(super) async fn run(args: CancelArgs, context: Context) -> anyhow::Result<Exit> {
    let CancelArgs { ids, batch, lane, job_type, caller, customer } = args;
    let redis = &context.config.redis;
    let selector = Selector { lane, job_type, caller, customer, batch, id: None };
    if ids.is_empty() && selector.is_everything() {
        let wanted = "say which jobs: their ids, --batch, --lane, --type, --caller or --customer";
        return Err(UsageError(wanted.to_owned()).into());
    }
    let mut order = Cancel { link: connect(redis).await?, context: &context, operator: this_operator() };
    if ids.is_empty() {
        return order.selection(selector).await;
    }
    let mut exit = Exit::Done;
    for id in &ids {
        if order.one(id).await? == Exit::Failed {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

struct Cancel<'a> {
    link: Link,
    context: &'a Context,
    operator: Actor,
}

impl Cancel<'_> {
    fn keys(&self, partition: u16) -> Keys {
        Keys::new(&self.context.config.redis.namespace, partition)
    }

    fn partitions(&self) -> std::ops::Range<u16> {
        0..self.context.config.redis.partitions.max(1)
    }

    /// Records the order and puts it in force; none where there are too many.
    async fn order(&mut self, selector: &Selector) -> RedisResult<Option<Rule>> {
        let namespace = &self.context.config.redis.namespace;
        let what = json!({"jobs": selector.told()});
        self.operator.record(&mut self.link, namespace, "cancel", &what, 1).await?;
        let at_ms = control::past_ms(&mut self.link).await?;
        let order = self.operator.order(at_ms, Some(at_ms.saturating_add(LIFE_MS)));
        let rule = Rule { verb: Verb::Cancel, selector: selector.clone(), order };
        let keys = self.keys(0);
        Ok(control::set_rule(&mut self.link, &keys, &rule).await?.then_some(rule))
    }

    async fn take_back(&mut self, rule: &Rule) -> RedisResult<()> {
        let (keys, name) = (self.keys(0), Rule::name(rule.verb, &rule.selector));
        control::drop_rule(&mut self.link, &keys, &name, Some(&rule.value())).await.map(drop)
    }

    /// One job, by its id.
    async fn one(&mut self, id: &str) -> anyhow::Result<Exit> {
        let redis = &self.context.config.redis;
        let failed = |error| unreachable(redis, &error);
        let mut progress = progress();
        let found = Locator::new(&mut self.link, redis, id, &mut progress).anywhere().await.map_err(failed)?;
        let (origin, partition, what) = match found {
            None => return self.not_cancelled(id, "no such job is waiting, and no completion of it was found"),
            Some(Found { place: Place::Ended { event, .. }, .. }) => {
                let status = event["status"].as_str().unwrap_or("completed");
                return self.not_cancelled(id, &format!("it has ended: {status}"));
            }
            Some(Found { place: Place::Dead { .. }, .. }) => {
                return self.not_cancelled(id, "it has ended, and is among the dead letters");
            }
            Some(Found { partition, place: Place::Parked { live, .. } }) => (live.origin, partition, "called up"),
            Some(Found { partition, place: Place::Waiting { live, .. } }) => {
                (live.origin, partition, "ends when it comes up")
            }
            Some(Found { partition, place: Place::Adrift { live } }) => {
                (live.origin, partition, "nobody holds it: it ends when a worker takes it up again")
            }
            Some(Found { partition, place: Place::InFlight { live, .. } }) => {
                (live.origin, partition, "a worker has it: if its call ends it, so be it; it makes no other")
            }
        };
        let selector = Selector { id: Some(id.to_owned()), ..Selector::default() };
        let Some(rule) = self.order(&selector).await.map_err(failed)? else { return Err(Error::TooManyRules.into()) };
        let keys = self.keys(partition);
        // It may be parked by now, wherever it was; once more when every worker knows.
        let mut marked = control::call_up(&mut self.link, &keys, &[origin]).await.map_err(failed)?;
        if marked == 0 {
            tokio::time::sleep(KNOWN_TO_ALL).await;
            marked = control::call_up(&mut self.link, &keys, &[origin]).await.map_err(failed)?;
        }
        if marked > 0 {
            // The job says it itself from now on.
            self.take_back(&rule).await.map_err(failed)?;
        }
        let what = if marked > 0 { "called up" } else { what };
        if self.context.json {
            print_json(&json!({"id": id, "cancelled": true, "detail": what}))?;
        } else {
            print_line(&format!("cancelled: {id} ({what})"))?;
        }
        Ok(Exit::Done)
    }

    fn not_cancelled(&self, id: &str, why: &str) -> anyhow::Result<Exit> {
        if self.context.json {
            print_json(&json!({"id": id, "cancelled": false, "detail": why}))?;
        }
        say(&format!("{id} is not cancelled: {why}"));
        Ok(Exit::Failed)
    }

    /// All jobs that a selector fits.
    async fn selection(&mut self, selector: Selector) -> anyhow::Result<Exit> {
        let redis = &self.context.config.redis;
        let failed = |error| unreachable(redis, &error);
        let Some(rule) = self.order(&selector).await.map_err(failed)? else { return Err(Error::TooManyRules.into()) };
        tokio::time::sleep(KNOWN_TO_ALL).await;
        let rules: Rules = std::iter::once(rule.clone()).collect();
        let (mut called_up, mut waiting) = (0, 0);
        for partition in self.partitions() {
            called_up += self.call_up(partition, &rules).await.map_err(failed)?;
            let keys = self.keys(partition);
            for lane in Lane::ALL.into_iter().filter(|lane| selector.lane.is_none_or(|wanted| wanted == *lane)) {
                let backlog = upkeep::backlog(&mut self.link, &keys, lane).await;
                waiting += match backlog {
                    Ok(backlog) => backlog.entries,
                    // No worker ever started.
                    Err(error) if error.code() == Some("NOGROUP") => 1,
                    Err(error) => return Err(failed(error)),
                };
            }
        }
        let what = json!({"jobs": selector.told()});
        self.operator
            .record(&mut self.link, &redis.namespace, "cancel parked", &what, called_up)
            .await
            .map_err(failed)?;
        if called_up == 0 && waiting == 0 {
            self.take_back(&rule).await.map_err(failed)?;
            anyhow::bail!("no job is waiting that fits: {}", selector.shown());
        }
        if self.context.json {
            print_json(&json!({"cancelled": selector, "parked": called_up, "in_lanes": waiting}))?;
        } else {
            print_line(&format!("cancelled: {}", selector.shown()))?;
            print_line(&format!(
                "{called_up} were parked and end now; of {waiting} in the lanes, those that fit end as they come up"
            ))?;
        }
        Ok(Exit::Done)
    }

    /// Calls up the parked jobs of a partition that the rules cancel.
    async fn call_up(&mut self, partition: u16, rules: &Rules) -> RedisResult<u64> {
        let keys = self.keys(partition);
        let lenient = self.context.config.limits.allow_missing_caller_id;
        let now_ms = control::now_ms(&mut self.link).await?;
        let mut progress = progress();
        let (mut cursor, mut seen, mut called_up) = (0, 0, 0);
        loop {
            let (next, parked) = control::scan_parked(&mut self.link, &keys, cursor, STEP).await?;
            seen += parked.len();
            progress(seen);
            let fits = |parked: &Parked| is_cancelled(parked, rules, now_ms, lenient);
            let origins: Vec<Origin> =
                parked.iter().filter(|parked| fits(parked)).map(|parked| parked.origin).collect();
            for origins in origins.chunks(MAX_CALL_UP) {
                called_up += control::call_up(&mut self.link, &keys, origins).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(called_up);
            }
        }
    }
}

fn is_cancelled(parked: &Parked, rules: &Rules, now_ms: u64, lenient: bool) -> bool {
    let state = JobState::from_json(&parked.state);
    let (origin, generation) = (parked.origin, state.map_or(0, |state| state.generation));
    let Some(job) = locate::parse(&parked.job, origin, generation, lenient) else { return false };
    let id = job.id.as_ref().map_or_else(|| origin.to_string(), |id| id.as_str().to_owned());
    rules.cancels(&Subject::of(&job, &id, origin.lane, origin.entry.ms), now_ms).is_some()
}

/// Tells a person how far a long search is.
pub(super) fn progress() -> impl FnMut(usize) {
    let (shown, mut next) = (std::io::stderr().is_terminal(), 50_000);
    move |seen| {
        if shown && seen >= next {
            say(&format!("{seen} looked at …"));
            next = seen + 50_000;
        }
    }
}
