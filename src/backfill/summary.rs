//! What the rows of files are: counts, and the reasons of rejected rows.

use super::{Row, RowCounts, RowFault, RowPlace, RowVerdict};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Maximum number of reasons that are told apart. More of them count as one.
const MAX_REASONS: usize = 100;

/// Why rows are not enqueued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The CSV column, or the JSON Pointer into an NDJSON line. Empty: the whole row.
    pub column: String,
    /// What would be right.
    pub reason: String,
    /// Number of rows.
    pub rows: u64,
    /// The line of the first such row; after a colon in another file than the first.
    pub first: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Rejected,
    Duplicate,
}

/// Counts rows and the reasons of those that are not enqueued.
#[derive(Debug, Default)]
pub struct Summary {
    counts: RowCounts,
    reasons: Vec<Reason>,
    known: HashMap<(String, String), usize>,
    /// Rows that a later row may correct, with the indexes of their reasons. `None` where there are no corrections.
    open: Option<HashMap<RowPlace, (Fate, Vec<usize>)>>,
    file_names: Vec<String>,
}

impl Summary {
    /// Counts rows of these files. `has_corrections`: later files may correct rows of earlier ones.
    pub fn new(file_names: Vec<String>, has_corrections: bool) -> Self {
        Self { open: has_corrections.then(HashMap::new), file_names, ..Self::default() }
    }

    /// Number of rows by verdict, so far.
    pub const fn counts(&self) -> RowCounts {
        self.counts
    }

    /// Adds a row. If it corrects an earlier row, it takes its place.
    pub fn add(&mut self, row: &Row) {
        let was_open = row.corrects.is_some_and(|place| self.replace(place));
        self.counts.rows += 1;
        let (fate, faults) = match &row.verdict {
            RowVerdict::Valid { .. } => {
                self.counts.valid += 1;
                self.counts.corrected += u64::from(was_open);
                self.counts.lookalikes += u64::from(row.alike.is_some());
                return;
            }
            RowVerdict::Rejected { faults, .. } => (Fate::Rejected, faults.as_slice()),
            RowVerdict::Duplicate { fault, .. } => (Fate::Duplicate, std::slice::from_ref(fault)),
        };
        *self.count(fate) += 1;
        let place = row.place();
        let mut reasons: Vec<usize> = faults.iter().map(|fault| self.reason(fault, fate, place)).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for reason in &reasons {
            self.reasons[*reason].rows += 1;
        }
        if let Some(open) = &mut self.open {
            open.insert(place, (fate, reasons));
        }
    }

    /// The reasons, the most frequent first.
    pub fn into_reasons(self) -> Vec<Reason> {
        let mut reasons = self.reasons;
        reasons.retain(|reason| reason.rows > 0);
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.rows));
        reasons
    }

    fn count(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Rejected => &mut self.counts.rejected,
            Fate::Duplicate => &mut self.counts.duplicates,
        }
    }

    /// Takes back what the earlier row at `place` added. Returns whether that row was not enqueued.
    fn replace(&mut self, place: RowPlace) -> bool {
        let Some((fate, reasons)) = self.open.as_mut().and_then(|open| open.remove(&place)) else { return false };
        self.counts.rows -= 1;
        *self.count(fate) -= 1;
        for reason in reasons {
            self.reasons[reason].rows -= 1;
        }
        true
    }

    fn reason(&mut self, fault: &RowFault, fate: Fate, place: RowPlace) -> usize {
        let reason = if fate == Fate::Duplicate { "is that of an earlier row" } else { fault.reason.as_str() };
        let mut key = (fault.place.clone(), reason.to_owned());
        if self.reasons.len() >= MAX_REASONS && !self.known.contains_key(&key) {
            key = (String::new(), "other reasons".to_owned());
        }
        if let Some(index) = self.known.get(&key) {
            return *index;
        }
        let (column, reason) = key.clone();
        let first = label(place, &self.file_names);
        self.reasons.push(Reason { column, reason, rows: 0, first });
        self.known.insert(key, self.reasons.len() - 1);
        self.reasons.len() - 1
    }
}

/// A place as the column `line` has it: `7` in the first file, `b.csv:7` in another.
pub(super) fn label(place: RowPlace, file_names: &[String]) -> String {
    match file_names.get(place.file).filter(|_| place.file > 0) {
        Some(name) => format!("{name}:{}", place.line),
        None => place.line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Original, *};

    fn row(line: u64, corrects: Option<u64>, reason: Option<&str>) -> Row {
        let verdict = match reason {
            Some(reason) => {
                let fault = RowFault { place: "email".to_owned(), reason: reason.to_owned() };
                RowVerdict::Rejected { reference: None, faults: vec![fault] }
            }
            None => {
                RowVerdict::Valid { reference: String::new(), email: String::new(), job: String::new(), partition: 0 }
            }
        };
        let corrects = corrects.map(|line| RowPlace { file: 0, line });
        let file = usize::from(corrects.is_some());
        Row { number: 1, file, line, corrects, original: Original::Text(Vec::new()), verdict, alike: None }
    }

    #[test]
    fn a_row_and_its_correction_are_one_row() {
        let mut summary = Summary::new(vec!["a.csv".to_owned(), "b.csv".to_owned()], true);
        for row in [row(2, None, None), row(3, None, Some("x")), row(4, None, Some("x")), row(5, None, Some("y"))] {
            summary.add(&row);
        }
        summary.add(&row(2, Some(3), None));
        summary.add(&row(3, Some(4), Some("y")));
        let wanted = RowCounts { rows: 4, valid: 2, rejected: 2, corrected: 1, ..RowCounts::default() };
        assert_eq!(summary.counts(), wanted);
        let first = "5".to_owned();
        assert_eq!(
            summary.into_reasons(),
            [Reason { column: "email".to_owned(), reason: "y".to_owned(), rows: 2, first }]
        );
    }

    #[test]
    fn reasons_are_bounded() {
        let mut summary = Summary::new(vec!["a.csv".to_owned()], false);
        for line in 0..500 {
            summary.add(&row(line, None, Some(&line.to_string())));
        }
        let reasons = summary.into_reasons();
        assert_eq!((reasons.len(), reasons[0].rows), (MAX_REASONS + 1, 400));
    }
}
