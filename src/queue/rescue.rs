//! Who holds which delivery: renewing leases, taking over what nobody renews, finding what nobody holds. The typed faces of
//! `lua/renew.lua`, `lua/rescue.lua`, `lua/find_adrift.lua` and `lua/count_removed.lua`.

use super::{
    Keys, Link, MAX_FIELD_BYTES, RawEntry, Source,
    entry::bounded_generation,
    script::{Script, script},
};
use crate::contract::{EntryId, Lane, millis};
use redis::RedisResult;
use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

static RENEW: LazyLock<Script> = LazyLock::new(|| script!("renew" on "atomic"));
static RESCUE: LazyLock<Script> = LazyLock::new(|| script!("rescue" on "atomic"));
static FIND_ADRIFT: LazyLock<Script> = LazyLock::new(|| script!("find_adrift" on "atomic" on "fields"));
static COUNT_REMOVED: LazyLock<Script> = LazyLock::new(|| script!("count_removed" on "fields"));

/// The consumer of deliveries that nobody holds, as `lua/atomic.lua` names it.
pub const ADRIFT: &str = "adrift";

/// The most leases one renewal names.
pub const MAX_RENEW: usize = 256;

/// How many pending deliveries one step of a rescue looks at.
const LOOKED_AT: usize = 256;

/// How many delivered entries one step of a search for such as nobody holds looks at. Few, for Redis copies them.
const SEARCHED: usize = 32;

/// What a renewal found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Deliveries that are another consumer's by now, or were ended.
    pub lost: Vec<EntryId>,
    /// Deliveries whose entries were removed by a foreign hand. They are this consumer's to end.
    pub trimmed: Vec<EntryId>,
}

/// Renews the leases of `ids` (at most [`MAX_RENEW`]) in one stream.
pub async fn renew(link: &mut Link, stream: &str, consumer: &str, ids: &[EntryId]) -> RedisResult<Renewal> {
    let mut call = RENEW.call(1);
    call.arg(stream).arg(consumer);
    for id in ids {
        call.arg(id.to_string());
    }
    let (lost, trimmed): (Vec<String>, Vec<String>) = redis::from_redis_value(RENEW.run(link, &call).await?)?;
    let parse = |ids: Vec<String>| ids.iter().filter_map(|id| id.parse().ok()).collect();
    Ok(Renewal { lost: parse(lost), trimmed: parse(trimmed) })
}

/// Where a rescue is on the pending list of a stream, and which deliveries it found idle before.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Where to go on; none: at the beginning.
    cursor: Option<String>,
    suspects: BTreeSet<EntryId>,
}

impl Round {
    /// A round from the beginning. The suspects were idle for a lease when they were looked at before, at least as long ago as
    /// holders take to renew.
    pub fn new(suspects: BTreeSet<EntryId>) -> Self {
        Self { cursor: None, suspects }
    }
}

/// What one step of a rescue did.
#[derive(Debug, Default)]
pub struct Rescued {
    /// Deliveries that nobody has renewed for the lease of their holder.
    /// With those leases.
    pub idle: Vec<(EntryId, Duration)>,
    /// Of the suspects, those taken over.
    pub taken: Vec<RawEntry>,
    /// Deliveries idle for a lease whose entries a foreign hand removed, and the consumers they are pending for.
    pub removed: Vec<(EntryId, String)>,
    /// The end of the pending list is reached.
    pub at_end: bool,
}

/// A worker that may hold deliveries, as its heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name in the consumer group.
    pub consumer: String,
    /// Its own lease: what it holds is not taken over sooner.
    pub lease: Duration,
    /// How long ago its last heartbeat was.
    pub silent: Duration,
}

/// Whose lease counts. A worker's own lease says how often it renews, so the lease of the holder decides, not that of the
/// worker that looks: else a change of `worker.lease` would take calls under way from workers with the longer lease.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// The lease of the worker that looks: for deliveries that nobody holds.
    pub own: Duration,
    /// Those known by a heartbeat. For any other holder the longest of all leases counts.
    pub holders: &'a [Holder],
}

impl Terms<'_> {
    /// The shortest lease of all.
    pub fn shortest(&self) -> Duration {
        self.holders.iter().map(|holder| holder.lease).chain([self.own]).min().unwrap_or(self.own)
    }

    /// The longest lease of all.
    pub fn longest(&self) -> Duration {
        self.holders.iter().map(|holder| holder.lease).chain([self.own]).max().unwrap_or(self.own)
    }
}

/// Which stream of which lane, and in whose name.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The lane.
    pub lane: Lane,
    /// Which of its streams.
    pub source: Source,
    /// Who takes over.
    pub consumer: &'a str,
}

/// One step through the pending list of a stream: takes over up to `most` deliveries that are among the suspects and that
/// nobody has renewed for the lease of their holder.
pub async fn rescue(
    link: &mut Link,
    keys: &Keys,
    place: Place<'_>,
    terms: &Terms<'_>,
    most: usize,
    round: &mut Round,
) -> RedisResult<Rescued> {
    step(link, keys, place, (terms, most, false), round).await
}

/// One step through the pending list of a stream: every delivery is idle from now on, for whoever holds it. After Redis's clock
/// went back its idle times say nothing.
pub async fn restamp(link: &mut Link, keys: &Keys, place: Place<'_>, round: &mut Round) -> RedisResult<Rescued> {
    let terms = Terms { own: Duration::MAX, holders: &[] };
    step(link, keys, place, (&terms, 0, true), round).await
}

/// What `rescue.lua` returns.
type Reply = (String, Vec<(String, u64)>, Vec<Vec<u8>>, Vec<String>);

async fn step(
    link: &mut Link,
    keys: &Keys,
    Place { lane, source, consumer }: Place<'_>,
    (terms, most, restamp): (&Terms<'_>, usize, bool),
    round: &mut Round,
) -> RedisResult<Rescued> {
    let bounded_ms = |time: Duration| millis(time).min(u64::MAX >> 12);
    let mut call = RESCUE.call(1);
    call.arg(keys.stream(lane, source)).arg(consumer).arg(bounded_ms(terms.own)).arg(most);
    call.arg(round.cursor.as_deref().unwrap_or("-")).arg(LOOKED_AT).arg(u8::from(restamp)).arg(MAX_FIELD_BYTES);
    call.arg(bounded_ms(terms.longest())).arg(terms.holders.len());
    for Holder { consumer, lease, silent } in terms.holders {
        call.arg(consumer).arg(bounded_ms(*lease)).arg(bounded_ms(*silent));
    }
    for id in &round.suspects {
        call.arg(id.to_string());
    }
    let (go_on, idle, taken, removed): Reply = redis::from_redis_value(RESCUE.run(link, &call).await?)?;
    let at_end = go_on.is_empty();
    round.cursor = (!at_end).then_some(go_on);
    Ok(Rescued {
        idle: idle.iter().filter_map(|(id, ms)| Some((id.parse().ok()?, Duration::from_millis(*ms)))).collect(),
        taken: taken.chunks_exact(6).filter_map(|row| raw_entry(row, lane, source)).collect(),
        removed: removed.chunks_exact(2).filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].clone()))).collect(),
        at_end,
    })
}

fn raw_entry(row: &[Vec<u8>], lane: Lane, source: Source) -> Option<RawEntry> {
    let [id, deliveries, job, state, parent, generation] = row else { return None };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(RawEntry {
        lane,
        source,
        id: text(id)?.parse().ok()?,
        job: job.clone(),
        state: (!state.is_empty()).then(|| state.clone()),
        parent: RawEntry::bounded_parent(parent),
        generation: if generation.is_empty() { 0 } else { bounded_generation(generation) },
        deliveries: text(deliveries)?.parse().unwrap_or(2).max(1),
        rescued: true,
    })
}

/// Where a search for entries that nobody holds is in a stream.
#[derive(Debug, Clone, Default)]
pub struct Search(Option<String>);

/// One step of the search; how many were found. They are pending again, and taken over after a lease.
pub async fn find_adrift(link: &mut Link, stream: &str, search: &mut Search) -> RedisResult<(u64, bool)> {
    let mut call = FIND_ADRIFT.call(1);
    call.arg(stream).arg(search.0.as_deref().unwrap_or("-")).arg(SEARCHED);
    let (go_on, found): (String, u64) = redis::from_redis_value(FIND_ADRIFT.run(link, &call).await?)?;
    let at_end = go_on.is_empty();
    search.0 = (!at_end).then_some(go_on);
    Ok((found, at_end))
}

/// Looks how many entries of a lane a foreign hand removed before they had ended; `before` is what the look before found. What
/// this look found (`None` where this Redis cannot tell, before 7.0), and how many are to be reported now: each once, whoever
/// looks.
pub async fn count_removed(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    before: Option<u64>,
) -> RedisResult<(Option<u64>, u64)> {
    let mut call = COUNT_REMOVED.call(2);
    call.arg(keys.jobs(lane)).arg(&keys.meta).arg(removed_field(lane));
    match before {
        Some(before) => call.arg(before),
        None => call.arg(-1),
    };
    let (count, report): (i64, u64) = redis::from_redis_value(COUNT_REMOVED.run(link, &call).await?)?;
    Ok((u64::try_from(count).ok(), report))
}

/// Entries of a lane that a foreign hand removed before they had ended, as workers reported them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// How many.
    pub count: u64,
    /// When more were found for the last time, in milliseconds on Redis's clock.
    pub at_ms: u64,
}

/// What workers have reported as removed from a lane. O(1).
pub async fn removed(link: &mut Link, keys: &Keys, lane: Lane) -> RedisResult<Option<Removed>> {
    let field = removed_field(lane);
    let kept: (Option<String>, Option<String>) =
        link.query(redis::cmd("HMGET").arg(&keys.meta).arg(&field).arg(format!("{field}_at"))).await?;
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Ok(number(kept.0).map(|count| Removed { count, at_ms: number(kept.1).unwrap_or(0) }))
}

fn removed_field(lane: Lane) -> String {
    format!("removed_{}", lane.as_str())
}

/// Takes a delivery off the pending list whose entry is gone and whose holder, too; whether it was there.
pub async fn forget(link: &mut Link, stream: &str, id: EntryId) -> RedisResult<bool> {
    let acknowledged: u64 = link.query(redis::cmd("XACK").arg(stream).arg(super::GROUP).arg(id.to_string())).await?;
    Ok(acknowledged == 1)
}
