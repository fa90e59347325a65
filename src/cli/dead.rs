//! `xco-worker dead`: looking at dead letters, and dealing with them.
//!
//! | file | |
//! |---|---|
//! | `filter`, `scan` | which letters, reading them a page ahead |
//! | `list`, `groups`, `show` | looking: nothing about a person, unless asked for and recorded |
//! | `replay`, `plan`, `editor`, `mover`, `outcomes` | back into the queue: how many and how long, at a pace |
//! | `discard`, `confirm` | away for good |

mod discard;
mod editor;
mod filter;
mod groups;
mod list;
mod mover;
mod outcomes;
mod plan;
mod replay;
mod scan;
mod show;

use super::{Context, Exit, confirm};
use clap::{Args, Subcommand};

/// Flags of `dead`.
#[derive(Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

/// What to do with dead letters.
#[derive(Subcommand)]
enum DeadCommand {
    /// List dead letters, the newest first, or count them (--by)
    ///
    /// Shows nothing about a person, but where `--by caller` or `--by customer_reference` ask for it.
    List(list::ListArgs),
    /// Show a letter: its job with personal data masked, and its error
    Show(show::ShowArgs),
    /// Put letters back into the queue
    ///
    /// Says first how many, of which kinds, which cannot be replayed and why, and how long it will take; and asks. Then
    /// moves them into the bulk lane at --rate. Exit 1 when nothing could be replayed.
    Replay(Box<replay::ReplayArgs>),
    /// Remove letters for good
    Discard(discard::DiscardArgs),
    /// Write letters as they are, personal data included, one JSON object a line
    Export(show::ExportArgs),
}

/// Runs one of them.
pub(super) async fn run(args: DeadArgs, context: Context) -> anyhow::Result<Exit> {
    match args.command {
        DeadCommand::List(args) => list::run(args, context).await,
        DeadCommand::Show(args) => show::show(args, context).await,
        DeadCommand::Replay(args) => replay::run(*args, context).await,
        DeadCommand::Discard(args) => discard::run(args, context).await,
        DeadCommand::Export(args) => show::export(args, context).await,
    }
}
