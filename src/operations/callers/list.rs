//! Lists callers that are closed, limited, or have jobs that wait.

use super::{LearnedRate, count};
use crate::{
    config::Config,
    contract::{JobType, fingerprint, format_ms},
    operations::{Backend, Error},
    queue::{
        Keys,
        learned::{self, MAX_LEARNED},
        rules,
    },
};
use redis::RedisResult;
use serde::Serialize;
use std::{cmp::Reverse, collections::HashMap, fmt, str::FromStr};

/// Maximum number of callers of one page.
pub const MOST_LISTED: usize = 1_000;

/// Maximum number of delayed jobs of a partition that are looked at for one page.
const MOST_DELAYED: u64 = 100_000;

/// Which callers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerState {
    /// A 429 has closed their limit for a while.
    Closed,
    /// They met a 429 within ten minutes.
    Limited,
    /// They have jobs that come back later.
    Delayed,
}

impl FromStr for CallerState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "closed" => Ok(Self::Closed),
            "limited" => Ok(Self::Limited),
            "delayed" => Ok(Self::Delayed),
            _ => Err("closed, limited or delayed".to_owned()),
        }
    }
}

/// Which callers are listed, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerListRequest {
    /// Those in this state.
    pub state: CallerState,
    /// Maximum number of callers; at most [`MOST_LISTED`].
    pub limit: usize,
    /// Begin here; `None`: at the beginning.
    pub cursor: Option<CallerCursor>,
}

/// One page of callers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallerList {
    /// The callers, partition by partition: of each the longest closed first, the latest 429 first, or the one with most waiting jobs
    /// first.
    pub callers: Vec<ListedCaller>,
    /// All delayed jobs were counted. Otherwise the numbers are lower bounds, and callers may be missing.
    pub exact: bool,
    /// Whether this was the last page.
    pub complete: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<CallerCursor>,
}

impl CallerList {
    /// With fingerprints in place of the callers' names, for readers that may not see them.
    #[must_use]
    pub fn fingerprinted(mut self) -> Self {
        for listed in &mut self.callers {
            listed.caller = fingerprint(&listed.caller);
        }
        self
    }
}

/// A caller in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedCaller {
    /// The `caller_id`, or the customer reference that takes its place.
    pub caller: String,
    /// The partition of its jobs.
    pub partition: u16,
    /// The job type whose own limit this is about; `None`: the caller's limit.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// What 429s have taught the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedRate>,
    /// No call is made before this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<String>,
    /// Number of its jobs that come back later. Only where callers with such jobs are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delayed: Option<u64>,
}

/// Where a page of callers begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerCursor {
    partition: u16,
    offset: usize,
}

impl fmt::Display for CallerCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for CallerCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (partition, offset) = text.split_once('-')?;
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        parse().ok_or_else(|| "a cursor that a list of callers returned".to_owned())
    }
}

impl Serialize for CallerCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Lists callers. Of each partition at most 1,000 callers that met a 429 are known, and at most 100,000 delayed jobs are counted for a
/// page. A caller whose state changes between two pages may be listed twice or not at all.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, config: &Config, request: CallerListRequest) -> Result<CallerList, Error> {
    let failed = backend.failed();
    page(backend, config, request).await.map_err(failed)
}

async fn page(backend: &mut Backend<'_>, config: &Config, request: CallerListRequest) -> RedisResult<CallerList> {
    let limit = request.limit.clamp(1, MOST_LISTED);
    let start = request.cursor.unwrap_or(CallerCursor { partition: 0, offset: 0 });
    let mut list = CallerList { callers: Vec::new(), exact: true, complete: false, cursor: None };
    for keys in backend.keys().into_iter().skip(usize::from(start.partition)) {
        let partition = keys.partition;
        let left = limit - list.callers.len();
        if left == 0 {
            list.cursor = Some(CallerCursor { partition, offset: 0 });
            return Ok(list);
        }
        let found = match request.state {
            CallerState::Delayed => {
                let (found, is_exact) = delayed(backend, &keys, config).await?;
                list.exact &= is_exact;
                found
            }
            CallerState::Closed | CallerState::Limited => met_429(backend, &keys, config, request.state).await?,
        };
        let offset = if partition == start.partition { start.offset } else { 0 };
        let (seen, rest) = (offset.saturating_add(left), found.len());
        list.callers.extend(found.into_iter().skip(offset).take(left));
        if seen < rest {
            list.cursor = Some(CallerCursor { partition, offset: seen });
            return Ok(list);
        }
    }
    list.complete = true;
    Ok(list)
}

/// The callers of a partition with delayed jobs, and whether all jobs were counted.
async fn delayed(backend: &mut Backend<'_>, keys: &Keys, config: &Config) -> RedisResult<(Vec<ListedCaller>, bool)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let each = |caller: &str| match counts.get_mut(caller) {
        Some(count) => *count += 1,
        None => drop(counts.insert(caller.to_owned(), 1)),
    };
    let (_, is_exact) = count::delayed(&mut backend.link, keys, config, MOST_DELAYED, each).await?;
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| Reverse(a.1).cmp(&Reverse(b.1)).then_with(|| a.0.cmp(&b.0)));
    let listed = |(caller, count)| ListedCaller {
        caller,
        partition: keys.partition,
        job_type: None,
        learned: None,
        closed_until: None,
        delayed: Some(count),
    };
    Ok((counts.into_iter().map(listed).collect(), is_exact))
}

/// The callers of a partition that met a 429 lately.
async fn met_429(
    backend: &mut Backend<'_>,
    keys: &Keys,
    config: &Config,
    state: CallerState,
) -> RedisResult<Vec<ListedCaller>> {
    let link = &mut backend.link;
    let now_ms = rules::now_ms(link).await?;
    let mut found = learned::learned(link, keys, MAX_LEARNED).await?;
    if state == CallerState::Closed {
        found.retain(|learned| learned.closed_until_ms > now_ms);
        found.sort_by_key(|learned| Reverse(learned.closed_until_ms));
    }
    let listed = found.into_iter().filter_map(|learned| {
        let (job_type, caller) = caller_of(&learned.bucket, config)?;
        Some(ListedCaller {
            caller: caller.to_owned(),
            partition: keys.partition,
            job_type,
            learned: Some(LearnedRate::of(&learned)),
            closed_until: Some(learned.closed_until_ms).filter(|until| *until > now_ms).map(format_ms),
            delayed: None,
        })
    });
    Ok(listed.collect())
}

/// The caller of a bucket, and the job type if the bucket is for one alone. `None` for a shared bucket. Only types with a limit of their
/// own have such buckets, so a caller named `check_user:x` is told from one by the configuration.
fn caller_of<'a>(bucket: &'a str, config: &Config) -> Option<(Option<JobType>, &'a str)> {
    let name = bucket.strip_prefix("caller:")?;
    let own = config.limits.types.keys().find_map(|job_type| {
        let caller = name.strip_prefix(job_type.config_key())?.strip_prefix(':')?;
        Some((Some(*job_type), caller))
    });
    Some(own.unwrap_or((None, name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Limit, parse_rate};

    #[test]
    fn a_bucket_names_its_caller() {
        let mut config = Config::default();
        assert_eq!(caller_of("caller:check_user:c", &config), Some((None, "check_user:c")));
        config.limits.types.insert(JobType::CheckUser, Limit { rate: parse_rate("1/s").unwrap(), burst: 1 });
        assert_eq!(caller_of("caller:check_user:c", &config), Some((Some(JobType::CheckUser), "c")));
        assert_eq!(caller_of("caller:203.0.113.9", &config), Some((None, "203.0.113.9")));
        assert_eq!((caller_of("client", &config), caller_of("total", &config)), (None, None));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = CallerCursor { partition: 3, offset: 40 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "3", "3-", "-4", "70000-1", "a-b"] {
            assert!(text.parse::<CallerCursor>().is_err(), "{text}");
        }
    }
}
