//! The flags that say which letters are meant.

use crate::{
    cli::values::parse_job_type,
    config::parse_duration,
    contract::{ErrorKind, JobType},
    dead_letters::{Filter, Moment, Statuses},
};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// Flags that say which letters are meant: those that fit all of them.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Which letters")]
pub(super) struct FilterArgs {
    /// Of these types
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, value_delimiter = ',')]
    pub job_type: Vec<JobType>,
    /// With these kinds of error: `upstream`, `timeout`, `invalid_job`, …
    #[arg(long, value_name = "KIND", value_parser = parse_kind, value_delimiter = ',')]
    pub error: Vec<ErrorKind>,
    /// Whose last answer had this status: `503`, or `5xx`
    #[arg(long, value_name = "STATUS")]
    pub http_status: Option<Statuses>,
    /// Whose problem document has this type, or one that ends with `/` and this
    #[arg(long, value_name = "TYPE")]
    pub problem: Option<String>,
    /// Of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Of this caller: the job's `caller_id`, else its customer reference
    #[arg(long, value_name = "CALLER")]
    pub caller: Option<String>,
    /// Of this customer
    #[arg(long, value_name = "REFERENCE")]
    pub customer_reference: Option<String>,
    /// From then on: RFC 3339, or so long ago (`2h`)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Until then: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// At least so old
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "until")]
    pub older_than: Option<Duration>,
    /// With this text somewhere in the job or the error, as their JSON has it
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Of the job with this id
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// That may be replayed as they are
    #[arg(long)]
    pub replayable: bool,
}

fn parse_kind(text: &str) -> Result<ErrorKind, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "no kind of error; `--by error.kind` lists them".to_owned())
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        let FilterArgs {
            job_type,
            error,
            http_status,
            problem,
            batch,
            caller,
            customer_reference,
            since,
            until,
            older_than,
            text,
            id,
            replayable,
        } = args;
        Self {
            job_type,
            error,
            http_status,
            problem,
            batch,
            caller,
            customer_reference,
            since,
            until,
            older_than,
            text,
            id,
            replayable,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::EntryId;
    use crate::dead_letters::{Facts, testing::letter};
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn filter(flags: &str) -> Filter {
        Command::try_parse_from(format!("x {flags}").split_whitespace()).ok().unwrap().filter.into()
    }

    #[test]
    fn a_letter_fits_what_is_asked_for_and_nothing_else() {
        let one = letter(
            r#"{"batch":"b","caller_id":"192.0.2.7","customer_reference":"r","args":{"email":"ada@example.com"}}"#,
            r#"{"kind":"upstream","http_status":503,"problem":{"type":"https://x/problems/busy"}}"#,
        );
        let facts = Facts::new(&one);
        for flags in [
            "",
            "--type CheckUser",
            "--type StartOtp,CheckUser --error timeout,upstream",
            "--http-status 503 --problem busy",
            "--http-status 5xx --problem https://x/problems/busy",
            "--batch b --caller 192.0.2.7 --customer-reference r --text ada@ --id a --id z --replayable",
        ] {
            assert!(filter(flags).wants(&facts), "{flags}");
        }
        for flags in [
            "--type StartOtp",
            "--error timeout",
            "--http-status 500",
            "--http-status 4xx",
            "--problem usy",
            "--batch c",
            "--caller r",
            "--customer-reference s",
            "--text bob",
            "--id b",
        ] {
            assert!(!filter(flags).wants(&facts), "{flags}");
        }
        for wrong in ["--http-status 9xx", "--http-status 42", "--since tomorrow", "--error oops", "--type X"] {
            assert!(Command::try_parse_from(format!("x {wrong}").split_whitespace()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_bound_the_stretch_and_never_go_past_the_newest() {
        let newest = EntryId { ms: 5_000, seq: 3 };
        let of = |flags: &str| filter(flags).stretch(10_000, newest).map(|s| (s.first.ms, s.last.ms, s.last.seq));
        assert_eq!(of(""), Some((0, 5_000, 3)));
        assert_eq!(of("--since 6s"), Some((4_000, 5_000, 3)));
        assert_eq!(of("--older-than 6s"), Some((0, 4_000, u64::MAX)));
        assert_eq!(of("--until 1970-01-01T00:00:02Z --since 9s"), Some((1_000, 2_000, u64::MAX)));
        assert_eq!(of("--since 1s"), None);
    }

    #[test]
    fn what_is_recorded_is_about_nobody() {
        let recorded = filter("--text ada@example.com --caller 192.0.2.7 --customer-reference r --type CheckUser")
            .recorded(0)
            .to_string();
        assert!(!recorded.contains("ada") && !recorded.contains("192"), "{recorded}");
        assert!(recorded.contains("CheckUser") && recorded.contains(r#""text":"given""#), "{recorded}");
    }
}
