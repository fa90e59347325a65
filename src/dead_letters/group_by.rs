//! Counting dead letters by what they have in common. Pure.

use super::DeadLetterView;
use crate::contract::fingerprint;
use serde::{Serialize, Serializer};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    str::FromStr,
};

/// Maximum number of groups that are told apart. Dead letters of further ones are counted together: memory stays bounded,
/// whatever they are counted by.
const MAX_GROUPS: usize = 200_000;

/// Separates the values of a group. Values that contain it get a space instead.
const SEPARATOR: char = '\u{1f}';

/// What dead letters can be counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The job type.
    Type,
    /// The value of `error.kind` as text.
    Kind,
    /// The value of `error.http_status`.
    HttpStatus,
    /// The type of XCO's problem document.
    Problem,
    /// The batch of the job.
    Batch,
    /// The caller: the job's `caller_id`, or else its customer reference.
    Caller,
    /// The customer reference of the job, or else of its arguments.
    CustomerReference,
    /// Whether it may be replayed as it is: `true` or `false`.
    Replayable,
    /// How often the job was replayed.
    Replay,
    /// The hour in which it was written, in UTC.
    Hour,
    /// The day on which it was written, in UTC.
    Day,
}

impl GroupBy {
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

    /// The name in flags and in JSON.
    pub const fn name(self) -> &'static str {
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

    /// Whether the values are personal data.
    const fn is_personal(self) -> bool {
        matches!(self, Self::Caller | Self::CustomerReference)
    }

    fn of<'f>(self, view: &DeadLetterView<'f>) -> Cow<'f, str> {
        let some = |text: Option<Cow<'f, str>>| text.unwrap_or_default();
        match self {
            Self::Type => Cow::Borrowed(view.letter.job_type.as_str()),
            Self::Kind => some(view.kind()),
            Self::HttpStatus => view.http_status().map_or_else(Cow::default, |status| status.to_string().into()),
            Self::Problem => some(view.problem()),
            Self::Batch => some(view.batch()),
            Self::Caller => some(view.caller()),
            Self::CustomerReference => some(view.customer_reference()),
            Self::Replayable => Cow::Borrowed(if view.letter.replayable { "true" } else { "false" }),
            Self::Replay => view.replays().to_string().into(),
            Self::Hour => view.at(13).into(),
            Self::Day => view.at(10).into(),
        }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            Self::ALL.into_iter().find(|by| by.name() == text || by.name().strip_prefix("error.") == Some(text));
        named.ok_or_else(|| format!("known are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Dead letters that have the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The values, in the order in which they were asked for; `None` where the dead letters have none.
    pub values: Vec<(GroupBy, Option<String>)>,
    /// Number of dead letters in the group.
    pub count: u64,
}

/// An object: one member for each value, and `count`.
impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum GroupMember<'a> {
            Value(Option<&'a str>),
            Count(u64),
        }
        let values = self.values.iter().map(|(by, value)| (by.name(), GroupMember::Value(value.as_deref())));
        let members: BTreeMap<_, _> = values.chain([("count", GroupMember::Count(self.count))]).collect();
        members.serialize(serializer)
    }
}

/// Counts of dead letters by group: the largest groups, and a total of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Groups {
    /// The largest groups, the largest of them first.
    pub groups: Vec<Group>,
    /// The rest, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<OtherGroups>,
    /// Number of all dead letters counted.
    pub total: u64,
}

impl Groups {
    /// The same with a fingerprint in place of each caller and customer reference: equal values have equal ones.
    #[must_use]
    pub fn fingerprinted(mut self) -> Self {
        for (by, value) in self.groups.iter_mut().flat_map(|group| &mut group.values) {
            if let Some(text) = value.as_mut().filter(|_| by.is_personal()) {
                *text = fingerprint(text);
            }
        }
        self
    }
}

/// The groups that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OtherGroups {
    /// How many dead letters they hold.
    pub count: u64,
    /// Always true: it tells this object apart from a group in JSON.
    pub others: bool,
    /// How many groups they are; `None` where there were too many to tell apart. Not part of the JSON.
    #[serde(skip)]
    pub groups: Option<usize>,
}

/// Counts dead letters by group, one at a time.
#[derive(Debug)]
pub struct GroupCounts {
    by: Vec<GroupBy>,
    counts: HashMap<String, u64>,
    /// Dead letters of the groups above [`MAX_GROUPS`].
    beyond: u64,
    total: u64,
    scratch: String,
}

impl GroupCounts {
    /// Counts nothing yet.
    pub fn new(by: Vec<GroupBy>) -> Self {
        Self { by, counts: HashMap::new(), beyond: 0, total: 0, scratch: String::new() }
    }

    /// Counts one.
    pub fn count(&mut self, view: &DeadLetterView<'_>) {
        self.total += 1;
        self.scratch.clear();
        for by in &self.by {
            // Writing to a String cannot fail.
            let _ = write!(self.scratch, "{}{SEPARATOR}", by.of(view).replace(SEPARATOR, " "));
        }
        if let Some(count) = self.counts.get_mut(&self.scratch) {
            *count += 1;
        } else if self.counts.len() < MAX_GROUPS {
            self.counts.insert(self.scratch.clone(), 1);
        } else {
            self.beyond += 1;
        }
    }

    /// The `limit` largest groups. Groups of one size are in alphabetical order.
    pub fn largest(&self, limit: usize) -> Groups {
        let mut sorted: Vec<_> = self
            .counts
            .iter()
            .map(|(group, count)| {
                (group.strip_suffix(SEPARATOR).unwrap_or(group).split(SEPARATOR).collect::<Vec<_>>(), *count)
            })
            .collect();
        sorted.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        let rest: u64 = sorted.iter().skip(limit).map(|(_, count)| count).sum::<u64>() + self.beyond;
        let others = (rest > 0).then(|| OtherGroups {
            count: rest,
            others: true,
            groups: (self.beyond == 0).then(|| sorted.len().saturating_sub(limit)),
        });
        let groups = sorted.into_iter().take(limit).map(|(values, count)| {
            let values = values.into_iter().map(|value| Some(value).filter(|value| !value.is_empty()));
            let values = self.by.iter().copied().zip(values.map(|value| value.map(str::to_owned))).collect();
            Group { values, count }
        });
        Groups { groups: groups.collect(), others, total: self.total }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dead_letters::testing::dead_letter;

    #[test]
    fn dead_letters_are_counted_by_several_things_at_once_the_most_first() {
        let mut counts = GroupCounts::new(vec![GroupBy::Type, "http_status".parse().unwrap(), GroupBy::Day]);
        for error in [r#"{"http_status":503}"#, r#"{"http_status":503}"#, "{}"] {
            counts.count(&DeadLetterView::new(&dead_letter("{}", error)));
        }
        let json = |groups: &Groups| {
            groups.groups.iter().map(|group| serde_json::to_string(group).unwrap()).collect::<Vec<_>>()
        };
        let all = counts.largest(5);
        assert_eq!(
            json(&all),
            [
                r#"{"count":2,"day":"2024-11-22","error.http_status":"503","type":"CheckUser"}"#,
                r#"{"count":1,"day":"2024-11-22","error.http_status":null,"type":"CheckUser"}"#,
            ]
        );
        assert_eq!((all.total, all.others), (3, None));
        let one = counts.largest(1);
        assert_eq!(one.others, Some(OtherGroups { count: 1, others: true, groups: Some(1) }));
        assert_eq!(serde_json::to_string(&one.others).unwrap(), r#"{"count":1,"others":true}"#);
        assert!("error".parse::<GroupBy>().is_err());
    }
}
