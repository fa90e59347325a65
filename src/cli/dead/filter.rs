//! The flags that select dead letters.

use crate::{
    cli::values::{parse_job_type, parse_name},
    config::parse_duration,
    contract::{ErrorKind, JobType, MerchantScope},
    operations::dead_letters::{DeadStatus, Filter, Moment, Statuses},
};
use clap::Args;
use std::time::Duration;

/// Flags that select dead letters. A dead letter must fit all of them.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct FilterArgs {
    /// Of any of these job types
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, value_delimiter = ',')]
    pub job_type: Vec<JobType>,
    /// With any of these kinds of error, such as `upstream`, `timeout` or `invalid_job`
    #[arg(long, value_name = "KIND", value_parser = parse_kind, value_delimiter = ',')]
    pub error: Vec<ErrorKind>,
    /// Whose jobs ended as `failed`, `rejected` (before any call), or `crash_loop` (a part of `failed`)
    #[arg(long, value_name = "STATUS", value_parser = parse_dead_status, value_delimiter = ',')]
    pub status: Vec<DeadStatus>,
    /// Whose last answer from XCO had this HTTP status: `503`, or `5xx`
    #[arg(long, value_name = "STATUS")]
    pub http_status: Option<Statuses>,
    /// Whose problem document (from XCO) has this type, or a type that ends with `/` and this
    #[arg(long, value_name = "TYPE")]
    pub problem: Option<String>,
    /// Of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Of this caller: the `caller_id` of the job, or else its customer reference
    #[arg(long, value_name = "CALLER")]
    pub caller: Option<String>,
    /// Of the customer with this reference
    #[arg(long, value_name = "REFERENCE")]
    pub customer_reference: Option<String>,
    /// Written at this time or later: RFC 3339, or an age such as `2h`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Written at this time or earlier: RFC 3339, or an age
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// At least this old
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "until")]
    pub older_than: Option<Duration>,
    /// With this text in the JSON of the job or of the error
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Of the job with this id; may be repeated
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// Only those that can be replayed without an edit
    #[arg(long)]
    pub replayable: bool,
}

fn parse_kind(text: &str) -> Result<ErrorKind, String> {
    parse_name(text, ErrorKind::ALL, ErrorKind::as_str)
}

fn parse_dead_status(text: &str) -> Result<DeadStatus, String> {
    parse_name(text, DeadStatus::ALL, DeadStatus::as_str)
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        let FilterArgs {
            job_type,
            error,
            status,
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
            status,
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
            merchants: MerchantScope::all(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        contract::EntryId,
        operations::dead_letters::{DeadLetterView, dead_letter},
    };
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
    fn a_dead_letter_fits_what_is_asked_for_and_nothing_else() {
        let one = dead_letter(
            r#"{"batch":"b","caller_id":"192.0.2.7","customer_reference":"r","args":{"email":"ada@example.com"}}"#,
            r#"{"kind":"upstream","http_status":503,"problem":{"type":"https://x/problems/busy"}}"#,
        );
        let view = DeadLetterView::new(&one);
        for flags in [
            "",
            "--type CheckUser",
            "--type StartOtp,CheckUser --error timeout,upstream",
            "--http-status 503 --problem busy --status failed",
            "--status rejected,failed",
            "--http-status 5xx --problem https://x/problems/busy",
            "--batch b --caller 192.0.2.7 --customer-reference r --text ada@ --id a --id z --replayable",
        ] {
            assert!(filter(flags).wants(&view), "{flags}");
        }
        for flags in [
            "--type StartOtp",
            "--error timeout",
            "--status rejected",
            "--status crash_loop",
            "--http-status 500",
            "--http-status 4xx",
            "--problem usy",
            "--batch c",
            "--caller r",
            "--customer-reference s",
            "--text bob",
            "--id b",
        ] {
            assert!(!filter(flags).wants(&view), "{flags}");
        }
        for wrong in
            ["--http-status 9xx", "--http-status 42", "--since tomorrow", "--error oops", "--type X", "--status dead"]
        {
            assert!(Command::try_parse_from(format!("x {wrong}").split_whitespace()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rejected_job_and_a_crash_loop_are_told_apart_by_status() {
        for (kind, fitting) in [("invalid_job", "rejected"), ("crash_loop", "crash_loop,failed"), ("timeout", "failed")]
        {
            let one = dead_letter("{}", &format!(r#"{{"kind":"{kind}"}}"#));
            for status in ["failed", "rejected", "crash_loop"] {
                let wanted = fitting.split(',').any(|name| name == status);
                assert_eq!(
                    filter(&format!("--status {status}")).wants(&DeadLetterView::new(&one)),
                    wanted,
                    "{kind} {status}"
                );
            }
        }
        assert!(!filter("--status failed").wants(&DeadLetterView::new(&dead_letter("{}", r#"{"kind":"unheard_of"}"#))));
    }

    #[test]
    fn a_wrong_kind_of_error_names_the_kinds_and_the_nearest() {
        let said = parse_kind("upstrem").unwrap_err();
        assert!(said.starts_with("did you mean upstream? Known are invalid_job, "), "{said}");
        assert!(parse_kind("zzz").unwrap_err().starts_with("known are invalid_job, "));
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
