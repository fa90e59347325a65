//! Asks for confirmation before a change.

use crate::cli::{UsageError, output::for_terminal, say};
use std::io::{self, BufRead, IsTerminal, Write};

/// Returns whether the operator agrees. With `yes` there is no question. Without a terminal it fails as wrong usage.
pub(super) fn confirm(yes: bool, question: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(UsageError(
            "there is no terminal to ask at: add --yes to go ahead, or --dry-run to see only what would be done"
                .to_owned(),
        )
        .into());
    }
    let _ = write!(io::stderr(), "{} [y/N] ", for_terminal(question));
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        say("nothing was changed");
    }
    Ok(is_yes)
}
