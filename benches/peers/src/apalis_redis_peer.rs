//! Standard `apalis-redis`.

use crate::{Payload, until_done};
use apalis::{
    layers::WorkerBuilderExt,
    prelude::{BoxDynError, TaskSink, WorkerBuilder},
};
use apalis_redis::{Config, RedisStorage};

const CHUNK: usize = 2000;

async fn storage(url: &str) -> RedisStorage<Payload, redis::aio::ConnectionManager> {
    let connection = apalis_redis::connect(url).await.unwrap();
    RedisStorage::new(connection).with_config(Config::default().queue("peers").batch_size(256))
}

async fn push(storage: &mut RedisStorage<Payload, redis::aio::ConnectionManager>, from: usize, count: usize) {
    let payloads: Vec<Payload> = (from..from + count).map(Payload::new).collect();
    storage.push_bulk(payloads).await.unwrap();
}

/// Enqueues the first chunk: the jobs that wait while memory is measured.
pub(crate) async fn enqueue(url: String, count: usize) -> usize {
    let mut storage = storage(&url).await;
    let first = CHUNK.min(count);
    push(&mut storage, 0, first).await;
    first
}

async fn run(_: Payload) -> Result<(), BoxDynError> {
    crate::done();
    Ok(())
}

pub(crate) async fn drain(url: String, count: usize, concurrency: usize) -> Result<(), String> {
    let worker = WorkerBuilder::new("peer").backend(storage(&url).await).concurrency(concurrency).build(run);
    let worker = tokio::spawn(worker.run());
    let mut producer = storage(&url).await;
    let mut pushed = CHUNK.min(count);
    while pushed < count {
        until_done(pushed - CHUNK / 2).await?;
        push(&mut producer, pushed, CHUNK).await;
        pushed += CHUNK;
    }
    until_done(count).await?;
    worker.abort();
    Ok(())
}
