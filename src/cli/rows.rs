//! A completion as one line for people.

use super::{
    style::{Style, Tone},
    width::Width,
};
use crate::contract::JobType;
pub(super) use crate::operations::printable;
use serde_json::Value;

/// The widths of the columns before the last: id, type, status, outcome, milliseconds.
const ID: usize = 30;
const TYPE: usize = 15;
const STATUS: usize = 9;
const OUTCOME: usize = 14;
const MS: usize = 7;

/// Formats completions as rows of a table. On a terminal too narrow for the table, each completion takes two lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    style: Style,
    width: Width,
    /// Whether the time has its date.
    is_dated: bool,
    /// The columns before each row that the caller fills.
    margin: usize,
}

impl Rows {
    /// Rows with the date of each completion.
    pub(super) fn dated() -> Self {
        Self { style: Style::of_stdout(), width: Width::of_stdout(), is_dated: true, margin: 0 }
    }

    /// Rows with the time of day only, for completions of the last minutes. The caller indents each line by `margin`.
    pub(super) fn of_today(margin: usize) -> Self {
        Self { style: Style::of_stdout(), width: Width::of_stdout(), is_dated: false, margin }
    }

    const fn time_width(self) -> usize {
        if self.is_dated { 23 } else { 12 }
    }

    fn is_table(self) -> bool {
        self.width.fits(self.margin + self.time_width() + ID + TYPE + STATUS + OUTCOME + MS + 10)
    }

    /// The line above the completions; `None` if they are no table.
    pub(super) fn header(self) -> Option<String> {
        let time = self.time_width();
        let line = format!(
            "{:<time$}  {:<ID$}  {:<TYPE$}  {:<STATUS$}  {:<OUTCOME$}  {:>MS$}",
            "TIME (UTC)", "ID", "TYPE", "STATUS", "OUTCOME", "MS"
        );
        self.is_table().then(|| self.style.paint(Tone::Strong, &line).into_owned())
    }

    /// `2026-01-31 10:04:31.123  signup-4  CheckUser  succeeded  exists  41` and its waits, if it had any.
    pub(super) fn row(self, event: &Value) -> String {
        let Self { style, width, .. } = self;
        let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
        let status = text(&event["status"]);
        let tone = match status.as_str() {
            "succeeded" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Odd,
        };
        let outcome = if event["outcome"].is_string() { &event["outcome"] } else { &event["error"]["kind"] };
        let (outcome, id, job_type) = (text(outcome), text(&event["id"]), text(&event["type"]));
        let ms = event["timings_ms"]["total"].as_u64().unwrap_or(0);
        let time = text(&event["completed_at"]).replacen('T', " ", 1);
        let time = time.get(if self.is_dated { 0 } else { 11 }..23).unwrap_or("-");
        let remarks = remarks(event);
        if self.is_table() {
            let columns = self.time_width();
            let time = format!("{time:<columns$}");
            let status = format!("{status:<STATUS$}");
            let mut line = format!(
                "{}  {id:<ID$}  {job_type:<TYPE$}  {}  {outcome:<OUTCOME$}  {ms:>MS$}",
                style.paint(Tone::Faint, &time),
                style.paint(tone, &status),
            );
            if !remarks.is_empty() {
                line.push_str("  ");
                line.push_str(&style.paint(Tone::Faint, &remarks));
            }
            return width.wrap(&line, columns + 2);
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!("  {remarks}") };
        let facts = format!("  {job_type}  {}  {outcome}  {ms} ms{remarks}", style.paint(tone, &status));
        format!("{}  {id}\n{}", style.paint(Tone::Faint, time), width.wrap(&facts, 4))
    }
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

    fn plain(width: Width) -> Rows {
        Rows { style: Style::plain(), width, is_dated: true, margin: 0 }
    }

    #[test]
    fn a_row_is_aligned_and_tells_what_was_waited_for() {
        let event = json!({
            "id": "signup-4", "type": "CheckUser", "status": "succeeded", "outcome": "exists", "attempts": 2,
            "completed_at": "2026-01-31T10:04:31.123Z", "timings_ms": {"total": 1041, "limited": 1000, "retrying": 0},
        });
        let rows = Rows { is_dated: false, ..plain(Width::unlimited()) };
        assert_eq!(
            rows.row(&event),
            "10:04:31.123  signup-4                        CheckUser        succeeded  exists             1041  \
             2 calls, 1000 ms for its limit"
        );
        assert_eq!(rows.header().and_then(|header| header.find("MS")), Some(95));
        let dated = plain(Width::unlimited());
        assert!(dated.row(&event).starts_with("2026-01-31 10:04:31.123  signup-4 "), "{}", dated.row(&event));
        for columns in [60, 80] {
            let narrow = plain(Width::columns(columns));
            assert_eq!(narrow.header(), None);
            let row = narrow.row(&event);
            assert!(
                row.starts_with("2026-01-31 10:04:31.123  signup-4\n  CheckUser  succeeded  exists  1041 ms"),
                "{row}"
            );
            assert!(row.lines().all(|line| line.len() <= columns), "{row}");
        }
    }

    #[test]
    fn a_rejected_job_shows_its_error_and_nothing_moves_the_cursor() {
        let event = json!({"id": "a\u{1b}[2J", "status": "rejected", "error": {"kind": "invalid_job", "fields": [
            {"pointer": "/args/email", "detail": "x"}]}});
        let row = plain(Width::unlimited()).row(&event);
        assert!(row.contains("invalid_job") && row.ends_with("at /args/email") && !row.contains('\u{1b}'), "{row}");
    }
}
