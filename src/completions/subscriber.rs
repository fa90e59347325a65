//! [`Subscriber`]: completions in batches, read by one task for each connection.

use super::{
    decode::Completed,
    gap::{self, Gap, Gaps, Position},
    group::{self, Handed},
    options::{Membership, Options, Start, ZERO},
    reader::{Cursor, Mode, ReadDemand, Reader},
};
use crate::{
    config::RedisConfig,
    contract::EntryId,
    queue::{Connector, Keys, Link, QueueError},
};
use redis::RedisResult;
use std::sync::Arc;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Follows the completion streams of all partitions.
///
/// Completions of one partition arrive in order; across partitions there is no order. After a lost connection it
/// reconnects and continues where it was: alone it delivers each completion once, in a group at least once. Dropping it
/// stops reading.
#[derive(Debug)]
pub struct Subscriber {
    batches: mpsc::Receiver<RedisResult<Vec<Completed>>>,
    readers: JoinSet<()>,
    member: Option<Member>,
    acknowledger: Acknowledger,
    gaps: Arc<Gaps>,
}

/// Acknowledges a member's completions, on a connection of its own. Does nothing for a reader without a group.
#[derive(Debug)]
pub struct Acknowledger {
    connector: Connector,
    link: Link,
    keys: Arc<Vec<Keys>>,
    member: Option<(Membership, Arc<Handed>)>,
}

#[derive(Debug)]
struct Member {
    membership: Membership,
    handed: Arc<Handed>,
    /// Number of calls of `next`.
    asked: watch::Sender<u64>,
}

impl Subscriber {
    /// Starts reading. With [`Start::Now`], every completion written after this returns is delivered.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached or refuses the commands.
    pub async fn start(redis: &RedisConfig, options: Options) -> Result<Self, QueueError> {
        let connector = Connector::new(redis)?;
        let keys: Vec<Keys> = redis.partitions.numbers().map(|number| Keys::new(&redis.namespace, number)).collect();
        let keys = Arc::new(keys);
        let mut link = connector.link(false);
        let mut cursors = Vec::with_capacity(keys.len());
        for keys in keys.iter() {
            let extent = gap::extent(&mut link, keys).await?;
            let after = match &options.start {
                Start::Beginning => ZERO,
                Start::Now => extent.last,
                Start::After(entry) => *entry,
                Start::AfterEach(entries) => entries.get(&keys.partition).copied().unwrap_or(ZERO),
            };
            if let Some(member) = &options.membership {
                group::ensure(&mut link, keys, &member.group, after).await?;
            }
            cursors.push(Cursor { keys: keys.clone(), after, position: Position::at(after, &extent) });
        }
        // Streams of several slots cannot be read with one command in a cluster.
        let per_reader = if redis.url.len() > 1 { 1 } else { cursors.len() };
        let batch = options.batch.clamp(1, 4096);
        let (sender, batches) = mpsc::channel(1);
        let mut readers = JoinSet::new();
        let gaps = Arc::new(Gaps::default());
        let member = options.membership.map(|membership| Member {
            membership,
            handed: Arc::new(Handed::default()),
            asked: watch::Sender::new(0),
        });
        while !cursors.is_empty() {
            let mine = cursors.split_off(cursors.len() - per_reader);
            let mode = match &member {
                None => Mode::Alone,
                Some(Member { membership, handed, asked }) => {
                    Mode::Member(membership.clone(), Arc::clone(handed), ReadDemand::new(asked.subscribe()))
                }
            };
            let reader =
                Reader::new(connector.link(true), mine, mode, (options.filter.clone(), batch), Arc::clone(&gaps));
            readers.spawn(reader.run(sender.clone()));
        }
        let of_member = member.as_ref().map(|member| (member.membership.clone(), Arc::clone(&member.handed)));
        let acknowledger = Acknowledger { connector, link, keys, member: of_member };
        Ok(Self { batches, readers, member, acknowledger, gaps })
    }

    /// Waits for the next completions and returns at least one. In a group, [`acknowledge`] them when they are
    /// processed. Cancel-safe: dropping the future loses nothing.
    ///
    /// [`acknowledge`]: Self::acknowledge
    ///
    /// # Errors
    ///
    /// Redis refuses to read the stream. Lost connections are not errors: they are retried.
    pub async fn next(&mut self) -> Result<Vec<Completed>, QueueError> {
        if let Ok(batch) = self.batches.try_recv() {
            return Ok(batch?);
        }
        if let Some(member) = &self.member {
            member.asked.send_modify(|asked| *asked += 1);
        }
        match self.batches.recv().await {
            Some(batch) => Ok(batch?),
            // A reader has reported its error and ended.
            None => Err(QueueError::Redis((redis::ErrorKind::Client, "the completions are read no more").into())),
        }
    }

    /// The gaps found since the last call: completions that were trimmed before they could be read. Check after each
    /// batch. A program that must not miss a completion has to find out in another way how those jobs ended.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.take()
    }

    /// Acknowledges processed completions, so that the group does not deliver them again. Does nothing without a group.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached. The completions may be delivered again.
    pub async fn acknowledge(&mut self, completions: &[Completed]) -> Result<(), QueueError> {
        self.acknowledger.acknowledge(completions).await
    }

    /// Acknowledges this reader's completions while another task waits for the next ones.
    pub fn acknowledger(&self) -> Acknowledger {
        let Acknowledger { connector, keys, member, .. } = &self.acknowledger;
        let (connector, link) = (connector.clone(), connector.link(false));
        Acknowledger { connector, link, keys: Arc::clone(keys), member: member.clone() }
    }

    /// Stops reading. In a group, another reader can take over the unacknowledged completions at once.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached. Other readers then wait for `claim_after`.
    pub async fn close(mut self) -> Result<(), QueueError> {
        self.readers.shutdown().await;
        self.acknowledger.hand_back().await
    }
}

impl Acknowledger {
    /// As [`Subscriber::acknowledge`].
    ///
    /// # Errors
    ///
    /// Redis cannot be reached. The completions may be delivered again.
    pub async fn acknowledge(&mut self, completions: &[Completed]) -> Result<(), QueueError> {
        let Some((membership, handed)) = &self.member else { return Ok(()) };
        for keys in self.keys.iter() {
            let entries: Vec<EntryId> =
                completions.iter().filter(|c| c.partition == keys.partition).map(|c| c.entry_id).collect();
            if !entries.is_empty() {
                group::acknowledge(&mut self.link, keys, &membership.group, &entries).await?;
                handed.forget(keys.partition, &entries);
            }
        }
        Ok(())
    }

    /// Lets other readers of the group take over at once what this one has not acknowledged. Drop the subscriber before.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached. Other readers then wait for `claim_after`.
    pub async fn hand_back(&mut self) -> Result<(), QueueError> {
        let Some((membership, _)) = &self.member else { return Ok(()) };
        for keys in self.keys.iter() {
            group::hand_back(&mut self.link, keys, membership).await?;
        }
        Ok(())
    }
}
