//! `xco-worker audit`

use super::{
    Context, Exit, print_json, print_line,
    rows::printable,
    style::{Style, Tone},
};
use crate::operations::{Backend, audit};
use clap::Args;
use serde_json::{Value, json};

/// Flags of `audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// Number of actions to list, 1 to 10000: the latest ones
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub count: u16,
}

/// Lists the actions of operators, the latest last.
pub(super) async fn run(args: AuditArgs, context: Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let style = Style::of_stdout();
    for entry in audit::list(&mut backend, usize::from(args.count)).await? {
        if context.json {
            print_json(&json!(entry))?;
            continue;
        }
        let what = match &entry.what {
            Value::String(text) => text.clone(),
            what => what.to_string(),
        };
        print_line(&format!(
            "{}  {} from {}: {} {} ({})",
            style.paint(Tone::Faint, &entry.at),
            printable(&entry.who),
            printable(&entry.from),
            style.paint(Tone::Strong, &printable(&entry.action)),
            printable(&what),
            entry.count,
        ))?;
    }
    Ok(Exit::Done)
}
