//! Formats the estimate of a replay for people.

use super::words::{counted, spoken};
use crate::{
    cli::rows::printable,
    operations::dead_letters::{ReplayEstimate, ReplayRefusal},
};
use std::{fmt::Write, time::Duration};

/// Formats the estimate as several lines: which jobs are replayed, which are not and why, which calls may be repeated, and how
/// long it takes.
pub(super) fn text(estimate: &ReplayEstimate) -> String {
    // Writing to a String cannot fail.
    let mut out = String::new();
    let table = |out: &mut String, refusal: Option<ReplayRefusal>| {
        for kind in estimate.kinds.iter().filter(|kind| kind.refused == refusal) {
            let _ = writeln!(out, "  {:>9}  {:<15}  {}", kind.count, kind.job_type, kind.error);
        }
    };
    let _ = writeln!(out, "{} to be replayed", counted(estimate.replay));
    table(&mut out, None);
    let mut refusals: Vec<_> = estimate.kinds.iter().filter_map(|kind| kind.refused).collect();
    refusals.dedup();
    for refusal in refusals {
        let of_it = estimate.kinds.iter().filter(|kind| kind.refused == Some(refusal));
        let count = of_it.map(|kind| kind.count).sum();
        let _ = writeln!(out, "{} not: {}", counted(count), reason(refusal));
        table(&mut out, Some(refusal));
    }
    for (pointer, at) in &estimate.invalid_at {
        let place = if pointer.is_empty() { "the job" } else { pointer };
        let _ = writeln!(out, "  {:>9}  {} {}", at.count, printable(place), printable(&at.detail));
    }
    for (risk, count) in &estimate.risks {
        let what = match risk {
            ReplayRefusal::NobodyWaits => "send a code, although the customer may have left",
            _ => "may have taken effect already, and are repeated",
        };
        let _ = writeln!(out, "careful: {count} of them {what}");
    }
    if estimate.replay > 0 {
        let time = spoken(Duration::from_millis(estimate.at_least_ms));
        let _ = writeln!(out, "this takes at least {time}, because of {}", estimate.limited_by);
    }
    out.trim_end().to_owned()
}

/// Why dead letters are not replayed, and which flag would change that.
const fn reason(refusal: ReplayRefusal) -> &'static str {
    match refusal {
        ReplayRefusal::NeedsCode => "the job needs a code, and codes are not kept: it cannot be replayed",
        ReplayRefusal::Rejected => "the job was rejected: `--set` or `--edit` what is wrong",
        ReplayRefusal::NobodyWaits => "the job sends a code, and the customer may have left: only with --force",
        ReplayRefusal::InDoubt => "the job may have taken effect, and would be repeated: only with --accept-doubt",
        ReplayRefusal::Invalid => "the job is not valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::dead_letters::{InvalidAt, KindCount, LimitedBy};

    #[test]
    fn an_estimate_says_what_is_replayed_what_not_and_how_long_it_takes() {
        let kind = |count, error, refused| KindCount { count, error, refused, job_type: "CheckUser" };
        let estimate = ReplayEstimate {
            at_least_ms: 4_500,
            invalid_at: [("/args".to_owned(), InvalidAt { count: 1, detail: "is required".to_owned() })].into(),
            kinds: vec![
                kind(4, "upstream", None),
                kind(1, "in_doubt", Some(ReplayRefusal::InDoubt)),
                kind(1, "timeout", Some(ReplayRefusal::Invalid)),
            ],
            limited_by: LimitedBy::Caller,
            refused: 2,
            replay: 4,
            risks: [(ReplayRefusal::InDoubt, 2)].into(),
        };
        assert_eq!(
            text(&estimate).lines().collect::<Vec<_>>(),
            [
                "4 dead letters to be replayed",
                "          4  CheckUser        upstream",
                "1 dead letter not: the job may have taken effect, and would be repeated: only with --accept-doubt",
                "          1  CheckUser        in_doubt",
                "1 dead letter not: the job is not valid",
                "          1  CheckUser        timeout",
                "          1  /args is required",
                "careful: 2 of them may have taken effect already, and are repeated",
                "this takes at least 5 s, because of one caller's limit",
            ]
        );
    }
}
