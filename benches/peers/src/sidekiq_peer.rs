//! Sidekiq in Rust.

use crate::{Payload, until_done};
use async_trait::async_trait;
use sidekiq::{Processor, ProcessorConfig, RedisConnectionManager, RedisPool, Worker};

struct Nothing;

#[async_trait]
impl Worker<Payload> for Nothing {
    async fn perform(&self, _: Payload) -> sidekiq::Result<()> {
        crate::done();
        Ok(())
    }
}

/// Connections of the producer.
const PRODUCER_CONNECTIONS: usize = 4;

async fn pool(url: &str, connections: usize) -> RedisPool {
    RedisPool::builder()
        .max_size(u32::try_from(connections).unwrap_or(u32::MAX))
        .build(RedisConnectionManager::new(url).unwrap())
        .await
        .unwrap()
}

pub(crate) async fn enqueue(url: String, count: usize) -> usize {
    let pool = pool(&url, PRODUCER_CONNECTIONS).await;
    for number in 0..count {
        Nothing::perform_async(&pool, Payload::new(number)).await.unwrap();
    }
    count
}

pub(crate) async fn drain(url: String, count: usize, concurrency: usize) -> Result<(), String> {
    let mut processor = Processor::new(pool(&url, concurrency).await, vec!["default".to_owned()])
        .with_config(ProcessorConfig::default().num_workers(concurrency));
    processor.register(Nothing);
    let worker = tokio::spawn(processor.run());
    let drained = until_done(count).await;
    worker.abort();
    drained
}
