//! One blocking read for many partitions of a lane.
//!
//! A connection that waits in a blocking read can do nothing else. With a connection for each lane of each partition, a
//! few workers with many partitions would need a thousand. The fetchers of up to [`MEMBERS`] partitions therefore wait
//! together: one `XREADGROUP` names all of their streams. A cluster refuses such a command, because the streams are in
//! different slots.

use super::context::WorkerContext;
use crate::{
    contract::Lane,
    queue::{self, Keys, Link, RawEntry},
};
use redis::RedisResult;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

/// How long a read blocks on an empty lane. A read is never cut off, because the entries it was given would be lost. A
/// stop therefore waits for it.
pub(super) const BLOCK: Duration = Duration::from_millis(250);

/// Up to this number of partitions each fetcher has its own connection, and is woken for its own streams only.
pub(super) const FEW: usize = 4;

/// Maximum number of partitions that wait together. Redis looks at each stream at the start and the end of a wait.
pub(super) const MEMBERS: usize = 64;

/// How long a read blocks while a fetcher is missing, because the missing fetcher's streams are not watched meanwhile.
const WITHOUT_ALL: Duration = Duration::from_millis(10);

struct Request {
    partition: usize,
    only_due: bool,
    since: Instant,
    answer: oneshot::Sender<RedisResult<Vec<RawEntry>>>,
}

/// A fetcher's handle to the shared blocking read.
#[derive(Debug, Clone)]
pub(super) struct SharedRead(mpsc::Sender<Request>);

impl SharedRead {
    /// Waits for entries of one partition, for [`BLOCK`] or a little longer. Returns at most one entry of each stream;
    /// with `only_due`, no new jobs.
    pub(super) async fn read(&self, partition: usize, only_due: bool) -> RedisResult<Vec<RawEntry>> {
        let gone = || io::Error::from(io::ErrorKind::ConnectionAborted).into();
        let (answer, answered) = oneshot::channel();
        if self.0.send(Request { partition, only_due, since: Instant::now(), answer }).await.is_err() {
            return Err(gone());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Reads for the fetchers of one lane in several partitions.
pub(super) struct LaneReader {
    context: Arc<WorkerContext>,
    lane: Lane,
    members: usize,
    link: Link,
    requests: mpsc::Receiver<Request>,
}

impl LaneReader {
    /// Starts the readers of a lane. Returns one handle for each partition; none if each fetcher waits by itself.
    pub(super) fn spawn(context: &Arc<WorkerContext>, lane: Lane, tasks: &mut JoinSet<()>) -> Vec<SharedRead> {
        let count = context.partitions.len();
        let mut ways = Vec::new();
        if count <= FEW || !context.connector.is_one_server() {
            return ways;
        }
        let mut left = count;
        while left > 0 {
            let members = left.min(MEMBERS);
            let (way, requests) = mpsc::channel(members);
            let link = context.connector.link(true);
            let reader = Self { context: Arc::clone(context), lane, members, link, requests };
            tasks.spawn(reader.run());
            ways.extend(std::iter::repeat_n(SharedRead(way), members));
            left -= members;
        }
        ways
    }

    /// Reads until the last fetcher has stopped.
    async fn run(mut self) {
        let mut waiting: Vec<Request> = Vec::with_capacity(self.members);
        loop {
            if waiting.is_empty() {
                match self.requests.recv().await {
                    Some(request) => waiting.push(request),
                    None => return,
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            // An aborted fetcher must not be given entries.
            waiting.retain(|request| !request.answer.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let block = if waiting.len() < self.members { WITHOUT_ALL } else { BLOCK };
            let context = Arc::clone(&self.context);
            let wanted: Vec<(&Keys, bool)> =
                waiting.iter().map(|request| (&context.partitions[request.partition].keys, request.only_due)).collect();
            let read = queue::read_lanes(&mut self.link, &wanted, self.lane, &context.consumer, block).await;
            let now = Instant::now();
            match read {
                Ok(mut found) => {
                    let mut left = Vec::with_capacity(self.members);
                    for (place, request) in waiting.into_iter().enumerate() {
                        let entries = found.remove(&place).unwrap_or_default();
                        if entries.is_empty() && now - request.since < BLOCK {
                            left.push(request);
                        } else {
                            let _ = request.answer.send(Ok(entries));
                        }
                    }
                    waiting = left;
                }
                Err(error) => {
                    for request in waiting.drain(..) {
                        let _ = request.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}
