//! Leases of deliveries: renews them, takes over expired ones, and finds deliveries without a consumer. The typed
//! wrappers of `renew.lua`, `rescue.lua`, `find_adrift.lua` and `count_removed.lua` in `lua/deliveries`.

use super::{
    Keys, Link, MAX_FIELD_BYTES, RawEntry, Source,
    entry::bounded_generation,
    script::{Script, script},
};
use crate::contract::{EntryId, Lane, millis};
use redis::{RedisResult, pipe};
use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

static RENEW: LazyLock<Script> = LazyLock::new(|| script!("deliveries/renew" on "shared/atomic"));
static RESCUE: LazyLock<Script> = LazyLock::new(|| script!("deliveries/rescue" on "shared/atomic"));
static FIND_ADRIFT: LazyLock<Script> =
    LazyLock::new(|| script!("deliveries/find_adrift" on "shared/atomic" on "shared/fields"));
static COUNT_REMOVED: LazyLock<Script> = LazyLock::new(|| script!("deliveries/count_removed" on "shared/fields"));

/// The consumer name for deliveries that no worker has. `lua/shared/atomic.lua` uses the same name.
pub const ADRIFT: &str = "adrift";

/// Maximum number of leases in one call of [`renew`].
pub const MAX_RENEW: usize = 256;

/// Number of pending deliveries that one step of a rescue examines.
const LOOKED_AT: usize = 256;

/// Number of delivered entries that one step of [`find_adrift`] examines. It is small because Redis copies the entries.
const SEARCHED: usize = 32;

/// The result of a renewal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Deliveries that now belong to another consumer, or have ended.
    pub lost: Vec<EntryId>,
    /// Deliveries whose entries another program removed. Only this consumer can end them.
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

/// The position of a rescue in a stream's pending list, and the deliveries that were idle in the previous round.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// The position to continue from. `None` is the beginning.
    cursor: Option<String>,
    suspects: BTreeSet<EntryId>,
}

impl Round {
    /// Starts a round at the beginning. The suspects had been idle for a lease when they were examined before, and
    /// since then their consumers have had enough time to renew.
    pub fn new(suspects: BTreeSet<EntryId>) -> Self {
        Self { cursor: None, suspects }
    }
}

/// The result of one step of a rescue.
#[derive(Debug, Default)]
pub struct Rescued {
    /// Deliveries that were not renewed for the lease of their consumer, with that lease.
    pub idle: Vec<(EntryId, Duration)>,
    /// The suspects that were taken over.
    pub taken: Vec<RawEntry>,
    /// Deliveries that were idle for a lease and whose entries another program removed, with the consumers they are
    /// pending for.
    pub removed: Vec<(EntryId, String)>,
    /// Whether the end of the pending list was reached.
    pub at_end: bool,
}

/// A worker that may have deliveries, as its heartbeat describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The worker's name in the consumer group.
    pub consumer: String,
    /// The worker's own lease. Its deliveries are not taken over earlier.
    pub lease: Duration,
    /// Time since the worker's last heartbeat.
    pub silent: Duration,
}

/// The leases that apply. A worker's own lease determines how often it renews, so the lease of the delivery's consumer
/// decides and not that of the worker that looks. Otherwise, a change of `worker.lease` would take calls in flight away
/// from workers with a longer lease.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// The lease of the worker that looks, for deliveries without a consumer.
    pub own: Duration,
    /// The workers known by a heartbeat. For any other consumer, the longest of all leases applies.
    pub holders: &'a [LeaseHolder],
}

impl Terms<'_> {
    /// Returns the shortest of all leases.
    pub fn shortest(&self) -> Duration {
        self.holders.iter().map(|holder| holder.lease).chain([self.own]).min().unwrap_or(self.own)
    }

    /// Returns the longest of all leases.
    pub fn longest(&self) -> Duration {
        self.holders.iter().map(|holder| holder.lease).chain([self.own]).max().unwrap_or(self.own)
    }
}

/// The stream to examine, and the consumer that takes over.
#[derive(Debug, Clone, Copy)]
pub struct RescueTarget<'a> {
    /// The lane of the stream.
    pub lane: Lane,
    /// Which of the lane's two streams is meant.
    pub source: Source,
    /// The consumer that takes over deliveries.
    pub consumer: &'a str,
}

/// One step through the pending list of a stream. Takes over up to `most` deliveries that are among the suspects and
/// were not renewed for the lease of their consumer.
pub async fn rescue(
    link: &mut Link,
    keys: &Keys,
    place: RescueTarget<'_>,
    terms: &Terms<'_>,
    most: usize,
    round: &mut Round,
) -> RedisResult<Rescued> {
    step(link, keys, place, (terms, most, false), round).await
}

/// One step through the pending list of a stream that restarts the idle time of every delivery, without changing its
/// consumer. It is needed after Redis's clock went back, because idle times are then meaningless.
pub async fn restamp(link: &mut Link, keys: &Keys, place: RescueTarget<'_>, round: &mut Round) -> RedisResult<Rescued> {
    let terms = Terms { own: Duration::MAX, holders: &[] };
    step(link, keys, place, (&terms, 0, true), round).await
}

/// The reply of `rescue.lua`.
type Reply = (String, Vec<(String, u64)>, Vec<Vec<u8>>, Vec<String>);

async fn step(
    link: &mut Link,
    keys: &Keys,
    RescueTarget { lane, source, consumer }: RescueTarget<'_>,
    (terms, most, restamp): (&Terms<'_>, usize, bool),
    round: &mut Round,
) -> RedisResult<Rescued> {
    let bounded_ms = |time: Duration| millis(time).min(u64::MAX >> 12);
    let mut call = RESCUE.call(1);
    call.arg(keys.stream(lane, source)).arg(consumer).arg(bounded_ms(terms.own)).arg(most);
    call.arg(round.cursor.as_deref().unwrap_or("-")).arg(LOOKED_AT).arg(u8::from(restamp)).arg(MAX_FIELD_BYTES);
    call.arg(bounded_ms(terms.longest())).arg(terms.holders.len());
    for LeaseHolder { consumer, lease, silent } in terms.holders {
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

/// The position of a search for deliveries without a consumer in a stream.
#[derive(Debug, Clone, Default)]
pub struct Search(Option<String>);

/// One step of the search. Returns how many deliveries were found, and whether the end was reached. Those found are
/// pending again, and are taken over after a lease.
pub async fn find_adrift(link: &mut Link, stream: &str, search: &mut Search) -> RedisResult<(u64, bool)> {
    let mut call = FIND_ADRIFT.call(1);
    call.arg(stream).arg(search.0.as_deref().unwrap_or("-")).arg(SEARCHED);
    let (go_on, found): (String, u64) = redis::from_redis_value(FIND_ADRIFT.run(link, &call).await?)?;
    let at_end = go_on.is_empty();
    search.0 = (!at_end).then_some(go_on);
    Ok((found, at_end))
}

/// Counts the entries of a lane that another program removed before they had ended. `before` is the count of the
/// previous look. Returns the new count (`None` before Redis 7.0, which cannot tell) and how many to report now. Each
/// removed entry is reported once, by only one worker.
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
    call.arg(unread_field(lane));
    let (count, report): (i64, u64) = redis::from_redis_value(COUNT_REMOVED.run(link, &call).await?)?;
    Ok((u64::try_from(count).ok(), report))
}

/// The entries of a lane that another program removed before they had ended, as workers reported them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The number of removed entries.
    pub count: u64,
    /// When more were last found, in milliseconds on Redis's clock.
    pub at_ms: u64,
}

/// Returns the reported number of entries removed from a lane. O(1).
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

/// The field of `meta` with the number of entries that were delivered before the group had read them.
fn unread_field(lane: Lane) -> String {
    format!("unread_{}", lane.as_str())
}

/// Delivers entries of a stream to `consumer` out of turn, although the group has not read as far. An entry that is pending for
/// another consumer, and was delivered less than `lease` ago, is left out. Returns the ids of what was delivered. O(ids · log
/// pending).
pub async fn claim_unread(
    link: &mut Link,
    keys: &Keys,
    RescueTarget { lane, source, consumer }: RescueTarget<'_>,
    lease: Duration,
    ids: &[EntryId],
) -> RedisResult<Vec<EntryId>> {
    let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    let stream = keys.stream(lane, source);
    let mut asked = pipe();
    let mut claim = redis::cmd("XCLAIM");
    claim.arg(stream).arg(super::GROUP).arg(consumer).arg(lease_ms);
    for id in ids {
        let id = id.to_string();
        asked.cmd("XPENDING").arg(stream).arg(super::GROUP).arg(&id).arg(&id).arg(1);
        claim.arg(id);
    }
    claim.arg("RETRYCOUNT").arg(1).arg("FORCE").arg("JUSTID");
    let pending: Vec<Vec<redis::Value>> = link.pipeline(&asked).await?;
    let claimed: Vec<String> = link.query(&claim).await?;
    let claimed: Vec<EntryId> = claimed.iter().filter_map(|id| id.parse().ok()).collect();
    let is_new = |(id, pending): &(&EntryId, &Vec<redis::Value>)| pending.is_empty() && claimed.contains(id);
    let count = ids.iter().zip(&pending).filter(is_new).count();
    if source == Source::Jobs && count > 0 {
        // Redis does not count what ends before the group has read it, and it would look as if another program had removed it.
        link.query::<i64>(redis::cmd("HINCRBY").arg(&keys.meta).arg(unread_field(lane)).arg(count)).await?;
    }
    Ok(claimed)
}

/// Removes a delivery whose entry and consumer are both gone from the pending list. Returns whether it was on the list.
pub async fn forget(link: &mut Link, stream: &str, id: EntryId) -> RedisResult<bool> {
    let acknowledged: u64 = link.query(redis::cmd("XACK").arg(stream).arg(super::GROUP).arg(id.to_string())).await?;
    Ok(acknowledged == 1)
}
