//! The apalis backend: supplies admitted deliveries. It has nothing to acknowledge, because a delivery settles itself.

use super::active_job::Delivery;
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::TaskId},
    worker::context::WorkerContext,
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Feeds an apalis worker from the fetchers. It never returns an error, because that would end the worker. The fetchers
/// handle all failures of Redis.
#[derive(Debug)]
pub(super) struct StreamsBackend {
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    buffer: VecDeque<Delivery>,
    stop: CancellationToken,
}

impl StreamsBackend {
    pub(super) const fn new(deliveries: mpsc::Receiver<Vec<Delivery>>, stop: CancellationToken) -> Self {
        Self { deliveries, buffer: VecDeque::new(), stop }
    }
}

impl Backend for StreamsBackend {
    type Task = Task<Delivery>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        loop {
            if self.stop.is_cancelled() {
                // Dropping the backend drops the buffered deliveries, which hands them back.
                return Poll::Ready(None);
            }
            if let Some(delivery) = self.buffer.pop_front() {
                return Poll::Ready(Some(Ok(Task::new(delivery))));
            }
            match self.deliveries.poll_recv(cx) {
                Poll::Ready(Some(batch)) => self.buffer.extend(batch),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        self.deliveries.close();
        self.buffer.clear();
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for StreamsBackend {
    type Args = Delivery;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = tower::layer::util::Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Self::Layer {
        tower::layer::util::Identity::new()
    }
}
