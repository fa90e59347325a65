//! What all requests share.

use super::{load::LoadGuard, ticket::Tickets, ticket_uses::TicketUses};
use crate::{
    access::Tokens,
    completions::CompletionHub,
    config::Config,
    console::ConsoleState,
    contract::millis,
    operations::{Error, SharedBackend, board::Board, dead_letters::runs::Runs, enqueue::JobChecker},
    telemetry::Metrics,
};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Maximum number of readers of the completions at once.
const MAX_READERS: usize = 8_192;

/// The state of one gateway.
pub(crate) struct GatewayState {
    pub(crate) config: Arc<Config>,
    pub(crate) console: Arc<ConsoleState>,
    /// The figures, which the console shows as well.
    pub(crate) board: Arc<Board>,
    /// Replays and discards that this process works on.
    pub(crate) runs: Runs,
    pub(crate) shared: Arc<SharedBackend>,
    pub(crate) hub: CompletionHub,
    /// One permit for each reader of the completions.
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) ticket_uses: TicketUses,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) tickets: Tickets,
    pub(crate) checker: JobChecker,
    pub(crate) load: LoadGuard,
    pub(crate) metrics: Metrics,
    /// Cancelled when the gateway stops: no new work begins, streams end.
    pub(crate) draining: CancellationToken,
}

impl GatewayState {
    pub(crate) fn new(config: Config, metrics: Metrics, draining: CancellationToken) -> Result<Arc<Self>, Error> {
        let config = Arc::new(config);
        let shared = Arc::new(SharedBackend::new(&config.redis)?);
        let tokens = Arc::new(Tokens::new(&config.gateway.tokens, config.xco.merchant_id.as_ref()));
        let runs = Runs::new(Arc::clone(&config));
        let board = Arc::new(Board::new(config.queue.max_pending));
        let console = ConsoleState::new(
            Arc::clone(&config),
            Arc::clone(&shared),
            runs.clone(),
            Arc::clone(&tokens),
            Arc::clone(&board),
            draining.clone(),
        );
        Ok(Arc::new(Self {
            console,
            board,
            hub: CompletionHub::start(&config.redis)?,
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            ticket_uses: TicketUses::default(),
            tokens,
            tickets: Tickets::new(&config.gateway),
            checker: JobChecker::new(&config),
            load: LoadGuard::new(config.queue.max_pending),
            runs,
            shared,
            config,
            metrics,
            draining,
        }))
    }

    /// Seconds since 1970, on this machine's clock: tickets are issued and verified by gateways alone.
    pub(crate) fn now_s() -> u64 {
        Self::now_ms() / 1_000
    }

    /// Milliseconds since 1970, on this machine's clock.
    pub(crate) fn now_ms() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
    }
}
