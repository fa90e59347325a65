//! BullMQ's own port to Rust.

use crate::{Payload, until_done};
use bullmq::{
    Job, Queue, QueueOptions, Worker, WorkerOptions,
    worker::{CancellationToken, ProcessorFn},
};
use std::sync::Arc;

pub(crate) async fn enqueue(url: String, count: usize) -> usize {
    let mut options = QueueOptions::default();
    options.connection.url = url;
    let queue = Queue::with_options("peers", options).await.unwrap();
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(500) {
        let jobs = chunk.iter().map(|number| bullmq::BulkJob::new("peer", Payload::new(*number))).collect();
        queue.add_bulk(jobs).await.unwrap();
    }
    count
}

pub(crate) async fn drain(url: String, count: usize, concurrency: usize) -> Result<(), String> {
    let run: ProcessorFn = Arc::new(|_: Job, _: CancellationToken| {
        Box::pin(async {
            crate::done();
            Ok(serde_json::Value::Null)
        })
    });
    let mut options = WorkerOptions::default();
    options.connection.url = url;
    options.concurrency = concurrency;
    options.remove_on_complete = Some(bullmq::types::RemoveOnFinish::Bool(true));
    let worker = Worker::with_options("peers", run, options).await.map_err(|error| error.to_string())?;
    let drained = until_done(count).await;
    let _ = worker.close(1000).await;
    drained
}
