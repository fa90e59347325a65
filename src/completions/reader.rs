//! The loop of one connection: reads, filters and delivers completions.

use super::{
    decode::{self, Completed, Entry, Filter},
    gap::{self, Gaps, Position},
    group::{self, Handed},
    options::{Membership, ZERO},
};
use crate::{
    contract::{EntryId, millis},
    net::Backoff,
    queue::{Keys, Link, explain, is_transient},
};
use redis::{RedisResult, Value, cmd};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// How long one read blocks in Redis.
const BLOCK: Duration = Duration::from_secs(1);
/// Delays between reads that fail.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(1_600);
/// How often a member looks for entries that other members have left unacknowledged.
const CLAIM_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of completions handed to a caller that does not acknowledge them.
const MAX_HANDED: usize = 16 * 1024;

/// A partition's stream and the reader's position in it.
pub(super) struct Cursor {
    pub(super) keys: Keys,
    pub(super) after: EntryId,
    pub(super) position: Position,
}

pub(super) enum Mode {
    Alone,
    Member(Membership, Arc<Handed>, ReadDemand),
}

/// Number of times the caller has asked for completions. A member reads only on request, because entries that it read
/// ahead would be withheld from the group's other members.
pub(super) struct ReadDemand {
    pub(super) asked: watch::Receiver<u64>,
    served: u64,
}

impl ReadDemand {
    pub(super) const fn new(asked: watch::Receiver<u64>) -> Self {
        Self { asked, served: 0 }
    }
}

pub(super) struct Reader {
    link: Link,
    cursors: Vec<Cursor>,
    mode: Mode,
    filter: Filter,
    batch: usize,
    /// Whether entries delivered earlier and not acknowledged must be read first. True for a member after every
    /// (re)connection.
    recovering: bool,
    next_claim: Instant,
    gaps: Arc<Gaps>,
}

impl Reader {
    pub(super) fn new(
        link: Link,
        cursors: Vec<Cursor>,
        mode: Mode,
        (filter, batch): (Filter, usize),
        gaps: Arc<Gaps>,
    ) -> Self {
        Self { link, cursors, mode, filter, batch, recovering: true, next_claim: Instant::now(), gaps }
    }

    /// Reads until the receiver is dropped, or until Redis refuses with a lasting error.
    pub(super) async fn run(mut self, to: mpsc::Sender<RedisResult<Vec<Completed>>>) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut is_failing = false;
        loop {
            if let Mode::Member(_, _, ReadDemand { asked, served }) = &mut self.mode
                && asked.wait_for(|asked| *asked > *served).await.is_err()
            {
                return;
            }
            let Ok(permit) = to.reserve().await else { return };
            match self.read().await {
                Ok(batch) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("completions can be read again");
                        backoff.reset();
                    }
                    if !batch.is_empty() {
                        if let Mode::Member(_, _, demand) = &mut self.mode {
                            demand.served = *demand.asked.borrow();
                        }
                        permit.send(Ok(batch));
                    }
                }
                Err(error) if is_transient(&error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let reason = explain(&error);
                        tracing::warn!(reason, "completions cannot be read; retrying");
                    }
                    drop(permit);
                    self.recovering = true;
                    if error.code() == Some("NOGROUP") {
                        self.remake_groups().await;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_delay()) => {}
                        () = to.closed() => return,
                    }
                }
                Err(error) => {
                    permit.send(Err(error));
                    return;
                }
            }
        }
    }

    /// Makes one read. Empty if nothing came within [`BLOCK`] or no completion matched the filter.
    async fn read(&mut self) -> RedisResult<Vec<Completed>> {
        let Mode::Member(member, handed, _) = &self.mode else { return self.read_alone().await };
        let (member, handed) = (member.clone(), Arc::clone(handed));
        if handed.count() >= MAX_HANDED {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(Vec::new());
        }
        if self.recovering {
            let recovered = self.recover(&member, &handed).await?;
            self.recovering = !recovered.is_empty();
            return Ok(recovered);
        }
        if Instant::now() >= self.next_claim {
            let claimed = self.claim(&member, &handed).await?;
            if !claimed.is_empty() {
                return Ok(claimed);
            }
            self.next_claim = Instant::now() + CLAIM_EVERY;
        }
        self.look_for_gaps(&member.group).await?;
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&member.group).arg(&member.consumer);
        let reply = self.ask(command, |_| ">".to_owned(), Some(BLOCK)).await?;
        let mut wanted = Vec::new();
        for (at, list) in reply {
            let entries = decode::entries(list, self.cursors[at].keys.partition);
            wanted.extend(self.sift(at, entries, &member, &handed).await?);
        }
        Ok(wanted)
    }

    async fn read_alone(&mut self) -> RedisResult<Vec<Completed>> {
        let reply = self.ask(cmd("XREAD"), |cursor| cursor.after.to_string(), Some(BLOCK)).await?;
        let mut wanted = Vec::new();
        for (at, list) in reply {
            let cursor = &mut self.cursors[at];
            let entries = decode::entries(list, cursor.keys.partition);
            let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
            let partition = cursor.keys.partition;
            // The entries are delivered even if this fails; then a gap goes unnoticed.
            match within(gap::extent(&mut self.link, &cursor.keys), None).await {
                Ok(extent) => {
                    if let Some(gap) = cursor.position.advance(partition, cursor.after, &ids, &extent) {
                        self.gaps.tell(gap);
                    }
                }
                Err(_) => cursor.position = Position::default(),
            }
            for (entry, completed) in entries {
                cursor.after = entry;
                wanted.extend(completed.filter(|completed| self.filter.wants(completed)));
            }
        }
        Ok(wanted)
    }

    /// Reports completions that were trimmed before the group read them.
    async fn look_for_gaps(&mut self, group: &str) -> RedisResult<()> {
        for cursor in &mut self.cursors {
            let extent = within(gap::extent(&mut self.link, &cursor.keys), None).await?;
            let Some((after, read)) = within(group::place(&mut self.link, &cursor.keys, group), None).await? else {
                continue;
            };
            if after != cursor.after {
                // The group has advanced: gaps reported earlier lie behind it.
                (cursor.after, cursor.position) = (after, Position::known(read));
            }
            if let Some(gap) = cursor.position.look(cursor.keys.partition, cursor.after, &extent) {
                self.gaps.tell(gap);
            }
        }
        Ok(())
    }

    /// Reads the entries that this consumer was given and has not acknowledged: from a lost reply, or from an earlier
    /// process of the same name.
    async fn recover(&mut self, member: &Membership, handed: &Handed) -> RedisResult<Vec<Completed>> {
        let mut wanted = Vec::new();
        for at in 0..self.cursors.len() {
            let mut after = ZERO;
            while wanted.len() < self.batch {
                let keys = &self.cursors[at].keys;
                let mut command = cmd("XREADGROUP");
                command.arg("GROUP").arg(&member.group).arg(&member.consumer).arg("COUNT").arg(self.batch);
                command.arg("STREAMS").arg(&keys.completions).arg(after.to_string());
                let reply = bounded(&mut self.link, &command, None).await?;
                let partition = keys.partition;
                let Some((_, found)) = decode::streams(reply).pop() else { break };
                let entries = decode::entries(found, partition);
                let Some((last, _)) = entries.last() else { break };
                after = *last;
                wanted.extend(self.sift(at, entries, member, handed).await?);
            }
        }
        Ok(wanted)
    }

    /// Takes over entries that other members were given and have left unacknowledged.
    async fn claim(&mut self, member: &Membership, handed: &Handed) -> RedisResult<Vec<Completed>> {
        let mut wanted = Vec::new();
        for at in 0..self.cursors.len() {
            let mut cursor = ZERO;
            // One pass visits each pending entry at most once. Ten steps bound one round.
            for _ in 0..10 {
                let keys = &self.cursors[at].keys;
                let claiming = group::claim(&mut self.link, keys, member, cursor, self.batch);
                let (next, entries) = within(claiming, None).await?;
                wanted.extend(self.sift(at, entries, member, handed).await?);
                cursor = next;
                if cursor == ZERO || wanted.len() >= self.batch {
                    break;
                }
            }
        }
        Ok(wanted)
    }

    /// Keeps the entries that match and have not been handed out. Acknowledges those that do not match.
    async fn sift(
        &mut self,
        at: usize,
        entries: Vec<Entry>,
        member: &Membership,
        handed: &Handed,
    ) -> RedisResult<Vec<Completed>> {
        let keys = &self.cursors[at].keys;
        let mut wanted = Vec::new();
        let mut unwanted = Vec::new();
        for (entry, completed) in entries {
            match completed.filter(|completed| self.filter.wants(completed)) {
                Some(completed) if handed.note(keys.partition, entry) => wanted.push(completed),
                Some(_) => {}
                None => unwanted.push(entry),
            }
        }
        if !unwanted.is_empty()
            && let Err(error) = within(group::acknowledge(&mut self.link, keys, &member.group, &unwanted), None).await
        {
            // They stay pending for this consumer and are read again when it recovers.
            tracing::debug!(%error, "completions that do not match the filter could not be acknowledged");
            self.recovering = true;
        }
        Ok(wanted)
    }

    /// Reads all streams with one command. Returns the entries of each as a list, with the index of its cursor.
    async fn ask(
        &mut self,
        mut command: redis::Cmd,
        from: impl Fn(&Cursor) -> String,
        block: Option<Duration>,
    ) -> RedisResult<Vec<(usize, Value)>> {
        // COUNT applies to each stream.
        command.arg("COUNT").arg(self.batch.div_ceil(self.cursors.len()).max(1));
        if let Some(block) = block {
            command.arg("BLOCK").arg(millis(block));
        }
        command.arg("STREAMS");
        for cursor in &self.cursors {
            command.arg(&cursor.keys.completions);
        }
        for cursor in &self.cursors {
            command.arg(from(cursor));
        }
        let reply = bounded(&mut self.link, &command, block).await?;
        let place = |name: &str| self.cursors.iter().position(|cursor| cursor.keys.completions == name);
        Ok(decode::streams(reply).into_iter().filter_map(|(name, list)| Some((place(&name)?, list))).collect())
    }

    /// Redis has lost the group, and the streams with it: all present entries are new.
    async fn remake_groups(&mut self) {
        let Mode::Member(member, ..) = &self.mode else { return };
        for cursor in &self.cursors {
            // A failure here repeats at the next read, which reports it.
            let _ = within(group::ensure(&mut self.link, &cursor.keys, &member.group, ZERO), None).await;
        }
    }
}

/// Runs a command on the blocking connection. That connection has no timeout of its own, and a server that died
/// silently must not block the reader for ever.
async fn bounded(link: &mut Link, command: &redis::Cmd, block: Option<Duration>) -> RedisResult<Value> {
    let asked = within(link.query(command), block).await;
    if asked.as_ref().is_err_and(|error: &redis::RedisError| error.is_timeout()) {
        link.reset();
    }
    asked
}

async fn within<T>(asked: impl Future<Output = RedisResult<T>>, block: Option<Duration>) -> RedisResult<T> {
    let longest = block.unwrap_or_default() + Duration::from_secs(5);
    match tokio::time::timeout(longest, asked).await {
        Ok(reply) => reply,
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer from Redis").into()),
    }
}
