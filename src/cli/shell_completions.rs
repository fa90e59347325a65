//! `xco-worker shell-completions`

use super::{Exit, StdoutClosed};
use crate::{
    contract::{ErrorKind, JobType, Lane, Status},
    operations::dead_letters::DeadStatus,
};
use clap::{Arg, Args, Command, ValueHint, builder::PossibleValuesParser};
use std::{
    any::TypeId,
    io::{self, Write},
};

/// Names in the help texts of values that are files.
const FILES: [&str; 5] = ["FILE", "PATH", "DIR", "FOLDER", "JSON|@FILE"];

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
pub(super) fn run(args: &ShellCompletionsArgs, command: Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut command = with_values(command);
    clap_complete::generate(args.shell, &mut command, "xco-worker", &mut script);
    let mut out = io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(error.into()),
    }
}

/// The command line, with what a shell can offer: the names of types, lanes and states, and files only where a value is a file.
fn with_values(command: Command) -> Command {
    let command = command.mut_args(with_value);
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_values))
}

fn with_value(arg: Arg) -> Arg {
    let is_file = |arg: &Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().any(|name| FILES.contains(&name.as_str()))
    };
    // A second set of names would change what the shell offers.
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
        return arg;
    }
    match names_of(&arg) {
        Some(names) => arg.value_parser(PossibleValuesParser::new(names)),
        None if is_file(&arg) => arg,
        None => arg.value_hint(ValueHint::Other),
    }
}

/// The names that the values of an argument have, by the values' type.
fn names_of(arg: &Arg) -> Option<Vec<&'static str>> {
    let of = arg.get_value_parser().type_id();
    if of == TypeId::of::<JobType>() {
        Some(JobType::ALL.map(JobType::as_str).to_vec())
    } else if of == TypeId::of::<Lane>() {
        Some(Lane::ALL.map(Lane::as_str).to_vec())
    } else if of == TypeId::of::<Status>() {
        Some(Status::ALL.map(Status::as_str).to_vec())
    } else if of == TypeId::of::<ErrorKind>() {
        Some(ErrorKind::ALL.map(ErrorKind::as_str).to_vec())
    } else if of == TypeId::of::<DeadStatus>() {
        Some(DeadStatus::ALL.map(DeadStatus::as_str).to_vec())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn values(command: &Command, path: &[&str], long: &str) -> Vec<String> {
        let inner = path.iter().fold(command, |command, name| command.find_subcommand(name).unwrap());
        let arg = inner.get_arguments().find(|arg| arg.get_long() == Some(long)).unwrap();
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
    }

    #[test]
    fn a_shell_offers_names_and_no_files() {
        let command = with_values(Cli::command());
        for path in
            [&["enqueue"][..], &["completions"], &["pause"], &["cancel"], &["dead", "list"], &["dead", "replay"]]
        {
            assert!(values(&command, path, "type").contains(&"CheckUser".to_owned()), "{path:?}");
        }
        assert_eq!(values(&command, &["enqueue"], "lane"), ["interactive", "bulk"]);
        assert!(values(&command, &["completions"], "status").contains(&"rejected".to_owned()));
        assert!(values(&command, &["dead", "list"], "status").contains(&"crash_loop".to_owned()));
        assert!(values(&command, &["dead", "list"], "error").contains(&"upstream".to_owned()));
        let enqueue = command.find_subcommand("enqueue").unwrap();
        let hint =
            |long: &str| enqueue.get_arguments().find(|arg| arg.get_long() == Some(long)).unwrap().get_value_hint();
        assert_eq!((hint("caller-id"), hint("user")), (ValueHint::Other, ValueHint::Unknown));
        assert_eq!(hint("file"), ValueHint::AnyPath);
    }
}
