//! A completion as one line for people.

use super::style::{Style, Tone};
use crate::contract::JobType;
pub(super) use crate::operations::printable;
use serde_json::Value;

/// The widths of the columns before the last: time, id, type, status, outcome, milliseconds.
const ID: usize = 30;
const TYPE: usize = 15;
const STATUS: usize = 9;
const OUTCOME: usize = 14;
const MS: usize = 7;

/// The line above the completions.
pub(super) fn header(style: Style) -> String {
    let line = format!(
        "{:<12}  {:<ID$}  {:<TYPE$}  {:<STATUS$}  {:<OUTCOME$}  {:>MS$}",
        "TIME (UTC)", "ID", "TYPE", "STATUS", "OUTCOME", "MS"
    );
    style.paint(Tone::Strong, &line).into_owned()
}

/// `10:04:31.123  signup-4  CheckUser  succeeded  exists  41` and, where there is something to say, what it waited for.
pub(super) fn row(event: &Value, style: Style) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let status = text(&event["status"]);
    let tone = match status.as_str() {
        "succeeded" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Odd,
    };
    let outcome = if event["outcome"].is_string() { &event["outcome"] } else { &event["error"]["kind"] };
    let time = text(&event["completed_at"]);
    let time = time.get(11..23).unwrap_or("-");
    let mut line = format!(
        "{}  {:<ID$}  {:<TYPE$}  {}  {:<OUTCOME$}  {:>MS$}",
        style.paint(Tone::Faint, &format!("{time:<12}")),
        text(&event["id"]),
        text(&event["type"]),
        style.paint(tone, &format!("{status:<STATUS$}")),
        text(outcome),
        event["timings_ms"]["total"].as_u64().unwrap_or(0),
    );
    let remarks = remarks(event);
    if !remarks.is_empty() {
        line.push_str("  ");
        line.push_str(&style.paint(Tone::Faint, &remarks));
    }
    line
}

/// What else a person would want to know: calls beyond the first, waits that are not the queue's.
fn remarks(event: &Value) -> String {
    let mut remarks = Vec::new();
    let attempts = event["attempts"].as_u64().unwrap_or(0);
    let steps = event["type"].as_str().and_then(JobType::from_name).map_or(1, |job_type| job_type.facts().steps);
    if attempts > steps {
        remarks.push(format!("{attempts} calls"));
    }
    for (name, what) in [("limited", "for its limit"), ("retrying", "between tries")] {
        let ms = event["timings_ms"][name].as_u64().unwrap_or(0);
        if ms > 0 {
            remarks.push(format!("{ms} ms {what}"));
        }
    }
    let fields = event["error"]["fields"].as_array().into_iter().flatten();
    let mut pointers: Vec<_> = fields.filter_map(|field| field["pointer"].as_str()).map(printable).collect();
    pointers.truncate(4);
    remarks.extend((!pointers.is_empty()).then(|| format!("at {}", pointers.join(" "))));
    remarks.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_aligned_and_tells_what_was_waited_for() {
        let event = json!({
            "id": "signup-4", "type": "CheckUser", "status": "succeeded", "outcome": "exists", "attempts": 2,
            "completed_at": "2026-01-31T10:04:31.123Z", "timings_ms": {"total": 1041, "limited": 1000, "retrying": 0},
        });
        assert_eq!(
            row(&event, Style::plain()),
            "10:04:31.123  signup-4                        CheckUser        succeeded  exists             1041  \
             2 calls, 1000 ms for its limit"
        );
        assert_eq!(header(Style::plain()).find("MS"), Some(95));
    }

    #[test]
    fn a_rejected_job_shows_its_error_and_nothing_moves_the_cursor() {
        let event = json!({"id": "a\u{1b}[2J", "status": "rejected", "error": {"kind": "invalid_job", "fields": [
            {"pointer": "/args/email", "detail": "x"}]}});
        let row = row(&event, Style::plain());
        assert!(row.contains("invalid_job") && row.ends_with("at /args/email") && !row.contains('\u{1b}'), "{row}");
    }
}
