//! What all requests to the console share.

use super::{board::Board, login_tries::LoginTries};
use crate::{
    access::Tokens,
    config::Config,
    operations::{SharedBackend, dead_letters::runs::Runs, sessions::SessionSecret},
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Maximum number of pages with live parts.
const STREAMS: usize = 1_024;

/// The state of the console of one gateway.
#[derive(Debug)]
pub struct ConsoleState {
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<SharedBackend>,
    /// Replays and discards that this process works on.
    pub(super) runs: Runs,
    pub(super) tokens: Arc<Tokens>,
    /// Cancelled when the gateway stops: streams end.
    pub(super) draining: CancellationToken,
    pub(super) board: Board,
    pub(super) tries: LoginTries,
    /// One permit for each open stream.
    pub(super) streams: Arc<Semaphore>,
    /// The secret of forms where no login is needed, because no tokens are configured.
    pub(super) open_csrf: String,
}

impl ConsoleState {
    /// The console of a gateway with this configuration. `draining` is cancelled when the gateway stops.
    pub fn new(
        config: Arc<Config>,
        shared: Arc<SharedBackend>,
        runs: Runs,
        tokens: Arc<Tokens>,
        draining: CancellationToken,
    ) -> Arc<Self> {
        let open_csrf = SessionSecret::random().expose().to_owned();
        let (board, tries, streams) = (Board::default(), LoginTries::default(), Arc::new(Semaphore::new(STREAMS)));
        Arc::new(Self { config, shared, runs, tokens, draining, board, tries, streams, open_csrf })
    }

    /// Whether browsers reach the console by `https`, so that its cookies are sent there alone.
    pub(super) fn is_https(&self) -> bool {
        self.config.gateway.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }
}
