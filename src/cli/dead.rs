//! `xco-worker dead`: looking at dead letters, replaying them, discarding them.
//!
//! | file | |
//! |---|---|
//! | `filter` | the flags that say which dead letters are meant |
//! | `list`, `show` | looking: without personal data, unless it is asked for and recorded |
//! | `replay`, `estimate`, `editor` | back into the queue: how many and how long, the edit, the result |
//! | `discard` | removed for good |
//! | `progress`, `words` | how far it is; numbers and durations for people |

mod discard;
mod editor;
mod estimate;
mod filter;
mod list;
mod progress;
mod replay;
mod show;
mod words;

use super::{Context, Exit, confirm};
use clap::{Args, Subcommand};

/// Flags of `dead`.
#[derive(Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

/// The subcommands of `dead`.
#[derive(Subcommand)]
enum DeadCommand {
    /// List dead letters, the newest first, or count them (--by)
    ///
    /// Shows no personal data, except with `--by caller` or `--by customer_reference`.
    List(list::ListArgs),
    /// Show a dead letter: its error, and its job with personal data masked
    Show(show::ShowArgs),
    /// Put dead letters back into the queue
    ///
    /// First prints an estimate: how many dead letters, which cannot be replayed and why, and the minimum duration. Then asks for
    /// confirmation, and moves them into the bulk lane at --rate. Exit 1 if none could be replayed.
    Replay(Box<replay::ReplayArgs>),
    /// Remove dead letters for good
    Discard(discard::DiscardArgs),
    /// Write complete dead letters, personal data included, one JSON object a line
    Export(show::ExportArgs),
}

/// Runs a subcommand.
pub(super) async fn run(args: DeadArgs, context: Context) -> anyhow::Result<Exit> {
    match args.command {
        DeadCommand::List(args) => list::run(args, context).await,
        DeadCommand::Show(args) => show::show(args, context).await,
        DeadCommand::Replay(args) => replay::run(*args, context).await,
        DeadCommand::Discard(args) => discard::run(args, context).await,
        DeadCommand::Export(args) => show::export(args, context).await,
    }
}
