//! `xco-worker pause` and `xco-worker resume`

use super::{
    Context, Exit, HintExt, UsageError,
    operator::Operator,
    output::say,
    print_json, print_line,
    redis_access::{connect, unreachable},
    values::parse_job_type,
};
use crate::{
    config::parse_duration,
    contract::{JobType, Lane, format_ms},
    control::{MAX_RULES, Rule, Selector, Verb},
    queue::{Keys, Link, control},
};
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Which jobs a pause is about.
#[derive(Args)]
pub struct PauseSelection {
    /// Everything
    #[arg(long, conflicts_with_all = ["lane", "job_type", "caller"])]
    pub all: bool,
    /// A lane: interactive or bulk
    #[arg(long, value_name = "LANE")]
    pub lane: Option<Lane>,
    /// Jobs of that type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Jobs of that caller (`caller_id`, else the customer reference)
    #[arg(long, value_name = "ID")]
    pub caller: Option<String>,
}

/// Flags of `pause`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker pause --lane bulk\n  \
    xco-worker pause --type StartOtp --for 10m\n  \
    xco-worker pause --caller 203.0.113.9\n  \
    xco-worker pause --all")]
pub struct PauseArgs {
    /// Which jobs
    #[command(flatten)]
    pub selection: PauseSelection,
    /// End the pause by itself after so long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
}

/// Flags of `resume`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  xco-worker resume --lane bulk\n  xco-worker resume --all")]
pub struct ResumeArgs {
    /// Which jobs: as they were paused; `--all` ends every pause
    #[command(flatten)]
    pub selection: PauseSelection,
}

impl PauseSelection {
    fn selector(&self) -> Result<Selector, UsageError> {
        let Self { all, lane, job_type, caller } = self;
        let selector = Selector { lane: *lane, job_type: *job_type, caller: caller.clone(), ..Selector::default() };
        if selector.is_everything() && !all {
            return Err(UsageError("say which jobs: --lane, --type, --caller, or --all".to_owned()));
        }
        Ok(selector)
    }
}

/// Puts a pause in force: every worker heeds it within a second or so, and so does every worker started later.
pub(super) async fn pause(args: PauseArgs, context: Context) -> anyhow::Result<Exit> {
    let selector = args.selection.selector()?;
    let redis = &context.config.redis;
    let keys = Keys::new(&redis.namespace, 0);
    let operator = Operator::of_this_process();
    let mut link = connect(redis).await?;
    let lasting_ms = args.lasting.map(|lasting| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX));
    let done: redis::RedisResult<(Rule, bool)> = async {
        let what = json!({"jobs": selector.told(), "for_ms": lasting_ms});
        operator.record(&mut link, &redis.namespace, "pause", &what, 1).await?;
        let at_ms = control::now_ms(&mut link).await?;
        let order = operator.order(at_ms, lasting_ms.map(|lasting_ms| at_ms.saturating_add(lasting_ms)));
        let rule = Rule { verb: Verb::Pause, selector, order };
        let set = control::set_rule(&mut link, &keys, &rule).await?;
        Ok((rule, set))
    }
    .await;
    let (rule, set) = done.map_err(|error| unreachable(redis, &error))?;
    if !set {
        return too_many();
    }
    let until = rule.order.until_ms.map(format_ms);
    if context.json {
        print_json(&json!({"paused": rule.selector, "until": until}))?;
    } else {
        let until = until.map_or_else(|| "until `resume`".to_owned(), |until| format!("until {until}"));
        print_line(&format!("paused: {}, {until}", rule.selector.shown()))?;
    }
    Ok(Exit::Done)
}

pub(super) fn too_many() -> anyhow::Result<Exit> {
    let refused: anyhow::Result<Exit> = Err(anyhow::anyhow!("{MAX_RULES} orders are in force, and no more are taken"));
    refused.hint("`xco-worker status` lists them; `xco-worker resume --all` ends every pause")
}

/// Ends a pause.
pub(super) async fn resume(args: ResumeArgs, context: Context) -> anyhow::Result<Exit> {
    let selector = args.selection.selector()?;
    let redis = &context.config.redis;
    let mut link = connect(redis).await?;
    let ended = end(&mut link, &redis.namespace, &selector).await.map_err(|error| unreachable(redis, &error))?;
    for selector in &ended.resumed {
        if context.json {
            print_json(&json!({"resumed": selector}))?;
        } else {
            print_line(&format!("resumed: {}", selector.shown()))?;
        }
    }
    if ended.others > 0 {
        say(&format!("{} other pauses are in force; `xco-worker status` lists them", ended.others));
    }
    if ended.resumed.is_empty() {
        anyhow::bail!("{} is not paused", selector.shown());
    }
    Ok(Exit::Done)
}

struct Ended {
    resumed: Vec<Selector>,
    others: usize,
}

async fn end(link: &mut Link, namespace: &str, selector: &Selector) -> redis::RedisResult<Ended> {
    let keys = Keys::new(namespace, 0);
    let now_ms = control::now_ms(link).await?;
    let (_, rules) = control::load(link, &keys).await?;
    let pauses = rules.all().filter(|(verb, _, order)| *verb == Verb::Pause && order.holds(now_ms));
    let (meant, others): (Vec<_>, Vec<_>) =
        pauses.map(|(_, paused, _)| paused.clone()).partition(|paused| selector.is_everything() || paused == selector);
    if !meant.is_empty() {
        let what = json!({"jobs": selector.told()});
        let count = u64::try_from(meant.len()).unwrap_or(0);
        Operator::of_this_process().record(link, namespace, "resume", &what, count).await?;
    }
    let mut resumed = Vec::new();
    for paused in meant {
        if control::drop_rule(link, &keys, &Rule::name(Verb::Pause, &paused), None).await? {
            resumed.push(paused);
        }
    }
    Ok(Ended { resumed, others: others.len() })
}
