//! `xco-worker shell-completions`

use super::{Exit, StdoutClosed};
use clap::Args;
use std::io::{ErrorKind, Write};

/// Flags of `shell-completions`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker shell-completions bash > ~/.local/share/bash-completion/completions/xco-worker\n  \
    xco-worker shell-completions zsh > \"${fpath[1]}/_xco-worker\"\n  \
    xco-worker shell-completions fish > ~/.config/fish/completions/xco-worker.fish")]
pub struct ShellCompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prints the script for `command`, the whole command line.
pub(super) fn run(args: &ShellCompletionsArgs, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "xco-worker", &mut script);
    let mut out = std::io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(error.into()),
    }
}
