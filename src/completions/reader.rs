//! One connection's loop: read, filter, hand on.

use super::{
    decode::{self, Completed, Entry, Filter},
    gap::{self, Gaps, Position},
    group::{self, Handed},
    options::{Membership, ZERO},
};
use crate::{
    contract::{EntryId, millis},
    queue::{Keys, Link, explain, is_transient},
};
use redis::{RedisResult, Value, cmd};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// How long a read waits in Redis before it is made again.
const BLOCK: Duration = Duration::from_secs(1);
/// How often a member looks for what others have left.
const CLAIM_EVERY: Duration = Duration::from_secs(5);
/// A caller that never acknowledges is given no more than this.
const MAX_HANDED: usize = 16 * 1024;

/// A partition's stream, and how far it was read.
pub(super) struct Cursor {
    pub(super) keys: Keys,
    pub(super) after: EntryId,
    pub(super) position: Position,
}

pub(super) enum Mode {
    Alone,
    Member(Membership, Arc<Handed>, Demand),
}

/// How often the caller has asked. A member reads only then: what it read ahead would be kept from the group's others.
pub(super) struct Demand {
    pub(super) asked: watch::Receiver<u64>,
    served: u64,
}

impl Demand {
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
    /// Of a member: what it was given before and did not acknowledge is read first, after every (re)connection.
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

    /// Reads until nobody listens, or Redis refuses for good.
    pub(super) async fn run(mut self, to: mpsc::Sender<RedisResult<Vec<Completed>>>) {
        let mut failures = 0_u32;
        loop {
            if let Mode::Member(_, _, Demand { asked, served }) = &mut self.mode
                && asked.wait_for(|asked| *asked > *served).await.is_err()
            {
                return;
            }
            let Ok(permit) = to.reserve().await else { return };
            match self.read().await {
                Ok(batch) => {
                    if failures > 0 {
                        tracing::info!("the completions can be read again");
                    }
                    failures = 0;
                    if !batch.is_empty() {
                        if let Mode::Member(_, _, demand) = &mut self.mode {
                            demand.served = *demand.asked.borrow();
                        }
                        permit.send(Ok(batch));
                    }
                }
                Err(error) if is_transient(&error) => {
                    if failures == 0 {
                        let reason = explain(&error);
                        tracing::warn!(reason, "the completions cannot be read; trying again");
                    }
                    drop(permit);
                    self.recovering = true;
                    if error.code() == Some("NOGROUP") {
                        self.remake_groups().await;
                    }
                    let wait = Duration::from_millis(50 << failures.min(5));
                    failures = failures.saturating_add(1);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
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

    /// One round: empty where nothing came within [`BLOCK`] or nothing of it is wanted.
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
            // What was read is handed on, also where this fails: then a gap goes unnoticed.
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

    /// Tells of what was trimmed before the group came to it.
    async fn look_for_gaps(&mut self, group: &str) -> RedisResult<()> {
        for cursor in &mut self.cursors {
            let extent = within(gap::extent(&mut self.link, &cursor.keys), None).await?;
            let Some((after, read)) = within(group::place(&mut self.link, &cursor.keys, group), None).await? else {
                continue;
            };
            if after != cursor.after {
                // The group has gone on: whatever was told is behind.
                (cursor.after, cursor.position) = (after, Position::known(read));
            }
            if let Some(gap) = cursor.position.look(cursor.keys.partition, cursor.after, &extent) {
                self.gaps.tell(gap);
            }
        }
        Ok(())
    }

    /// What this consumer was given and has not acknowledged: a reply that was lost, or an earlier life of its own.
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

    /// What other readers were given and have left.
    async fn claim(&mut self, member: &Membership, handed: &Handed) -> RedisResult<Vec<Completed>> {
        let mut wanted = Vec::new();
        for at in 0..self.cursors.len() {
            let mut cursor = ZERO;
            // A lap visits each pending entry once at most; ten steps bound one round.
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

    /// Keeps what is wanted and not handed out yet; acknowledges what nobody will.
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
            // They stay with this consumer, and come again when it recovers.
            tracing::debug!(%error, "unwanted completions are not acknowledged");
            self.recovering = true;
        }
        Ok(wanted)
    }

    /// Reads all streams with one command; gives the entries of each as a list, with the place of its cursor.
    async fn ask(
        &mut self,
        mut command: redis::Cmd,
        from: impl Fn(&Cursor) -> String,
        block: Option<Duration>,
    ) -> RedisResult<Vec<(usize, Value)>> {
        // COUNT is for each stream.
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

    /// Redis lost the group, and the streams with it: everything there is now is new.
    async fn remake_groups(&mut self) {
        let Mode::Member(member, ..) = &self.mode else { return };
        for cursor in &self.cursors {
            // What fails here fails again at the next read, and is told there.
            let _ = within(group::ensure(&mut self.link, &cursor.keys, &member.group, ZERO), None).await;
        }
    }
}

/// A command on the blocking connection, which has no timeout of its own: a server that died without a word must not hold
/// the reader for ever.
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
