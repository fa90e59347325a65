//! What all requests to the console share.

use super::login_tries::LoginTries;
use crate::{
    access::Tokens,
    config::Config,
    operations::{
        Error, SharedBackend,
        board::{Board, Look},
        dead_letters::runs::Runs,
        jobs::PersonSeals,
        sessions::SessionSecret,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How often a page with live parts looks at the queue.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// A look is used again for this long: a little less than [`EVERY`], so that a tick of a stream finds a new one.
const FRESH: Duration = Duration::from_millis(1_500);
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
    /// The figures, which the gateway shares.
    pub(super) board: Arc<Board>,
    pub(super) tries: LoginTries,
    /// Names people in addresses.
    pub(super) seals: Arc<PersonSeals>,
    /// One permit for each open stream.
    pub(super) streams: Arc<Semaphore>,
    /// The secret of forms where no login is needed, because no tokens are configured.
    pub(super) open_csrf: String,
}

impl ConsoleState {
    /// The console of a gateway with this configuration, which shares its `board`. `draining` is cancelled when the gateway stops.
    pub fn new(
        config: Arc<Config>,
        shared: Arc<SharedBackend>,
        runs: Runs,
        tokens: Arc<Tokens>,
        board: Arc<Board>,
        draining: CancellationToken,
    ) -> Arc<Self> {
        let open_csrf = SessionSecret::random().expose().to_owned();
        let (tries, streams) = (LoginTries::default(), Arc::new(Semaphore::new(STREAMS)));
        let seals = Arc::new(PersonSeals::new(&config.gateway.ticket_keys));
        Arc::new(Self { config, shared, runs, tokens, draining, board, tries, seals, streams, open_csrf })
    }

    /// A fresh look at the queue.
    pub(super) async fn look(&self) -> Result<Arc<Look>, Error> {
        self.board.look(&self.shared, FRESH).await
    }

    /// Whether browsers reach the console by `https`, so that its cookies are sent there alone.
    pub(super) fn is_https(&self) -> bool {
        self.config.gateway.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }
}
