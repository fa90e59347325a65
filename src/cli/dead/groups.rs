//! `dead list --by`: how many letters of which kind.

use super::scan::{Enough, Letters, Places};
use crate::{
    cli::{
        Exit, print_json, print_line,
        rows::printable,
        say,
        style::{Style, Tone},
    },
    dead_letters::{Facts, Filter},
    queue::dead::Order,
};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::HashMap, fmt::Write, str::FromStr};

/// More groups than this are counted together: memory is bounded, whatever is counted by.
const MAX_GROUPS: usize = 200_000;

/// Between the values of a group: in none of them.
const BETWEEN: char = '\u{1f}';

/// What letters can be counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `type`
    Type,
    /// `error.kind`
    Kind,
    /// `error.http_status`
    HttpStatus,
    /// The problem document's type.
    Problem,
    /// `batch`
    Batch,
    /// The effective caller.
    Caller,
    /// Of the job, else of its arguments.
    CustomerReference,
    /// Whether it may be replayed as it is.
    Replayable,
    /// How often it was replayed.
    Replay,
    /// The hour, in UTC.
    Hour,
    /// The day, in UTC.
    Day,
}

impl Key {
    const ALL: [Self; 11] = [
        Self::Type,
        Self::Kind,
        Self::HttpStatus,
        Self::Problem,
        Self::Batch,
        Self::Caller,
        Self::CustomerReference,
        Self::Replayable,
        Self::Replay,
        Self::Hour,
        Self::Day,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Kind => "error.kind",
            Self::HttpStatus => "error.http_status",
            Self::Problem => "problem",
            Self::Batch => "batch",
            Self::Caller => "caller",
            Self::CustomerReference => "customer_reference",
            Self::Replayable => "replayable",
            Self::Replay => "replay",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn of<'f>(self, facts: &Facts<'f>) -> Cow<'f, str> {
        let some = |text: Option<Cow<'f, str>>| text.unwrap_or_default();
        match self {
            Self::Type => Cow::Borrowed(facts.letter.job_type.as_str()),
            Self::Kind => some(facts.kind()),
            Self::HttpStatus => facts.http_status().map_or_else(Cow::default, |status| status.to_string().into()),
            Self::Problem => some(facts.problem()),
            Self::Batch => some(facts.batch()),
            Self::Caller => some(facts.caller()),
            Self::CustomerReference => some(facts.customer_reference()),
            Self::Replayable => Cow::Borrowed(if facts.letter.replayable { "true" } else { "false" }),
            Self::Replay => facts.replays().to_string().into(),
            Self::Hour => facts.at(13).into(),
            Self::Day => facts.at(10).into(),
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            Self::ALL.into_iter().find(|key| key.name() == text || key.name().strip_prefix("error.") == Some(text));
        named.ok_or_else(|| format!("known are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Groups and their sizes.
struct Groups {
    keys: Vec<Key>,
    counts: HashMap<String, u64>,
    /// Of groups that there was no more room for.
    others: u64,
    total: u64,
    scratch: String,
}

impl Groups {
    fn new(keys: Vec<Key>) -> Self {
        Self { keys, counts: HashMap::new(), others: 0, total: 0, scratch: String::new() }
    }

    fn count(&mut self, facts: &Facts<'_>) {
        self.total += 1;
        self.scratch.clear();
        for key in &self.keys {
            // Writing to a String cannot fail.
            let _ = write!(self.scratch, "{}{BETWEEN}", key.of(facts).replace(BETWEEN, " "));
        }
        if let Some(count) = self.counts.get_mut(&self.scratch) {
            *count += 1;
        } else if self.counts.len() < MAX_GROUPS {
            self.counts.insert(self.scratch.clone(), 1);
        } else {
            self.others += 1;
        }
    }

    /// The largest first.
    fn sorted(&self) -> Vec<(Vec<&str>, u64)> {
        let mut groups: Vec<_> = self
            .counts
            .iter()
            .map(|(group, count)| {
                (group.strip_suffix(BETWEEN).unwrap_or(group).split(BETWEEN).collect::<Vec<_>>(), *count)
            })
            .collect();
        groups.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        groups
    }
}

/// Counts all that fit, and prints the `limit` largest groups.
pub(super) async fn run(
    letters: &Letters,
    places: &Places,
    filter: &Filter,
    keys: Vec<Key>,
    limit: usize,
) -> anyhow::Result<Exit> {
    let mut groups = Groups::new(keys);
    let mut scan = letters.scan(places, Order::OldestFirst);
    scan.for_each(letters, filter, |facts| {
        groups.count(facts);
        Ok(Enough::No)
    })
    .await?;
    let sorted = groups.sorted();
    let hidden = sorted.len().saturating_sub(limit);
    let rest: u64 = sorted.iter().skip(limit).map(|(_, count)| count).sum::<u64>() + groups.others;
    if letters.context.json {
        for (values, count) in sorted.iter().take(limit) {
            let mut group: Map<String, Value> =
                groups.keys.iter().zip(values).map(|(key, value)| (key.name().to_owned(), json_of(value))).collect();
            group.insert("count".to_owned(), (*count).into());
            print_json(&group)?;
        }
        if rest > 0 {
            print_json(&serde_json::json!({"others": true, "count": rest}))?;
        }
        return Ok(Exit::Done);
    }
    let style = Style::of_stdout();
    let names = groups.keys.iter().map(|key| key.name().to_uppercase()).collect::<Vec<_>>();
    print_line(&style.paint(Tone::Strong, &format!("{:>9}  {}", "COUNT", names.join("  "))))?;
    for (values, count) in sorted.iter().take(limit) {
        let values: Vec<_> =
            values.iter().zip(&names).map(|(value, name)| format!("{:<1$}", shown(value), name.len())).collect();
        print_line(format!("{count:>9}  {}", values.join("  ")).trim_end())?;
    }
    if rest > 0 {
        let groups = if groups.others > 0 { "more groups".to_owned() } else { format!("{hidden} more groups") };
        say(&format!("{rest:>9}  in {groups}"));
    }
    say(&format!("{:>9}  in all", groups.total));
    Ok(Exit::Done)
}

fn shown(value: &str) -> String {
    if value.is_empty() { "-".to_owned() } else { printable(value) }
}

fn json_of(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { value.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dead_letters::testing::letter;

    #[test]
    fn letters_are_counted_by_several_things_at_once_the_most_first() {
        let mut groups = Groups::new(vec![Key::Type, "http_status".parse().unwrap(), Key::Day]);
        for error in [r#"{"http_status":503}"#, r#"{"http_status":503}"#, "{}"] {
            groups.count(&Facts::new(&letter("{}", error)));
        }
        let sorted = groups.sorted();
        assert_eq!(sorted[0], (vec!["CheckUser", "503", "2024-11-22"], 2));
        assert_eq!(sorted[1], (vec!["CheckUser", "", "2024-11-22"], 1));
        assert!("error".parse::<Key>().is_err());
    }
}
