//! `xco-worker audit`

use super::{
    Context, Exit, print_json, print_line,
    redis_access::{connect, unreachable},
    rows::printable,
    style::{Style, Tone},
};
use crate::{
    contract::format_ms,
    queue::{Keys, find},
};
use clap::Args;
use serde_json::{Value, json};

/// Flags of `audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// How many of the last actions to list, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub count: u16,
}

/// Lists what operators did, the last action last.
pub(super) async fn run(args: AuditArgs, context: Context) -> anyhow::Result<Exit> {
    let redis = &context.config.redis;
    let mut link = connect(redis).await?;
    let keys = Keys::new(&redis.namespace, 0);
    let mut actions = find::page_back(&mut link, &keys.audit, None, usize::from(args.count))
        .await
        .map_err(|error| unreachable(redis, &error))?;
    actions.reverse();
    let style = Style::of_stdout();
    for (entry, fields) in actions {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let count: u64 = field("count").parse().unwrap_or(0);
        let at = format_ms(entry.ms);
        if context.json {
            let what: Value = serde_json::from_str(field("what")).unwrap_or_else(|_| json!(field("what")));
            print_json(&json!({"at": at, "who": field("who"), "from": field("from"), "action": field("action"),
                "what": what, "count": count}))?;
        } else {
            print_line(&format!(
                "{}  {} from {}: {} {} ({count})",
                style.paint(Tone::Faint, &at),
                printable(field("who")),
                printable(field("from")),
                style.paint(Tone::Strong, &printable(field("action"))),
                printable(field("what")),
            ))?;
        }
    }
    Ok(Exit::Done)
}
