//! The access token: fetched by one caller for all, refreshed ahead of its end, replaced when XCO refuses it.
//!
//! No task of its own: callers do the work. Past [`REFRESH_AT_PERCENT`] of a token's life one caller fetches the next
//! while the others go on with the one in hand; without a token in hand everybody waits for the one who fetches.
//!
//! A token endpoint that fails means that a call was never sent: [`FailureKind::Network`], to be tried again. That is so
//! for a refusal of the client (400, 401, 403) too: a mistyped secret must delay jobs, not bury them. It is
//! logged as an error, at most every [`LOG_EVERY`], and not asked about again within [`REFUSAL_PAUSE`].

use super::{
    CallFailure, FailureKind,
    setup::Credentials,
    token_endpoint::{self, TokenFault},
    transport::Http,
};
use secrecy::SecretString;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::Instant;

/// When the next token is fetched, in percent of the life of the one in hand.
const REFRESH_AT_PERCENT: u32 = 80;
/// After a failed refresh ahead of time, the token in hand serves this long before the next try.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);
/// How long a refusal stands before the endpoint is asked again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// How often a failing token endpoint is logged.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// What the token endpoint granted.
pub(super) struct Grant {
    /// The token.
    pub(super) token: SecretString,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// How long it lives from then.
    pub(super) life: Duration,
}

/// A token in use.
pub(super) struct Token {
    grant: Grant,
    /// Tells tokens apart: each has a higher one than those before it.
    generation: u64,
}

impl Token {
    /// The secret.
    pub(super) fn secret(&self) -> &SecretString {
        &self.grant.token
    }

    /// As granted.
    pub(super) fn life(&self) -> Duration {
        self.grant.life
    }

    /// Whether it is past its life by our clock.
    pub(super) fn is_expired(&self) -> bool {
        self.grant.asked.elapsed() >= self.grant.life
    }

    fn wants_refresh(&self) -> bool {
        self.grant.asked.elapsed() >= self.grant.life * REFRESH_AT_PERCENT / 100
    }
}

/// What whoever fetches knows of fetches before.
#[derive(Default)]
struct Flight {
    generation: u64,
    failed: Option<(Instant, TokenFault)>,
}

/// The tokens of one client.
pub(super) struct TokenCache {
    http: Http,
    credentials: Credentials,
    current: RwLock<Option<Arc<Token>>>,
    flight: tokio::sync::Mutex<Flight>,
    /// No refresh ahead of time before this.
    refresh_after: Mutex<Option<Instant>>,
    /// The generation that XCO refused last, and when it did so first.
    refused: Mutex<Option<(u64, Instant)>>,
    logged: Mutex<Option<Instant>>,
}

impl TokenCache {
    pub(super) fn new(http: Http, credentials: Credentials) -> Self {
        Self {
            http,
            credentials,
            current: RwLock::new(None),
            flight: tokio::sync::Mutex::default(),
            refresh_after: Mutex::new(None),
            refused: Mutex::new(None),
            logged: Mutex::new(None),
        }
    }

    /// A token that is valid by our clock, by `deadline` at the latest.
    pub(super) async fn get(&self, deadline: Instant) -> Result<Arc<Token>, CallFailure> {
        match self.in_hand() {
            Some(token) if !token.wants_refresh() => Ok(token),
            Some(token) => Ok(self.refresh_ahead(token, deadline).await),
            None => self.wait_for_one(deadline).await,
        }
    }

    /// XCO refused `token`: nobody uses it from now on.
    pub(super) fn refuse(&self, token: &Token) {
        {
            let mut refused = lock(&self.refused);
            if refused.is_none_or(|(generation, _)| generation < token.generation) {
                *refused = Some((token.generation, Instant::now()));
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|held| held.generation == token.generation) {
            *current = None;
        }
    }

    /// The token to use. One that was asked for before another was refused may have been issued, and revoked, with that one.
    fn in_hand(&self) -> Option<Arc<Token>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let token = current.as_ref().filter(|token| !token.is_expired())?;
        let outdated = lock(&self.refused).is_some_and(|(_, at)| token.grant.asked < at);
        (!outdated).then(|| Arc::clone(token))
    }

    /// The next token, if nobody else is fetching it; else, or if that fails, the one in hand.
    async fn refresh_ahead(&self, token: Arc<Token>, deadline: Instant) -> Arc<Token> {
        if lock(&self.refresh_after).is_some_and(|after| Instant::now() < after) {
            return token;
        }
        let Ok(mut flight) = self.flight.try_lock() else { return token };
        // Somebody may have finished between the look at the token and the lock.
        match self.in_hand() {
            Some(held) if held.generation != token.generation => return held,
            _ => {}
        }
        // The one in hand still serves: a slow endpoint may not eat up this caller's time, nor outlast the token.
        let budget = deadline.saturating_duration_since(Instant::now()) / 4;
        let until = (Instant::now() + budget).min(token.grant.asked + token.grant.life);
        // Set before the attempt, so that a caller who is cancelled in mid-fetch is not followed by a stampede.
        *lock(&self.refresh_after) = Some(Instant::now() + REFRESH_PAUSE);
        self.fetch(&mut flight, until).await.unwrap_or(token)
    }

    async fn wait_for_one(&self, deadline: Instant) -> Result<Arc<Token>, CallFailure> {
        let began = Instant::now();
        let Ok(mut flight) = tokio::time::timeout_at(deadline, self.flight.lock()).await else {
            return Err(CallFailure::unanswered(FailureKind::Network, "no access token in time"));
        };
        if let Some(token) = self.in_hand() {
            return Ok(token);
        }
        // A failure that came while this caller waited is this caller's too; a refusal stands a little longer.
        let known = flight
            .failed
            .as_ref()
            .filter(|(at, fault)| *at >= began || (fault.refused && at.elapsed() < REFUSAL_PAUSE));
        if let Some((_, fault)) = known {
            return Err(failure(fault));
        }
        self.fetch(&mut flight, deadline).await.map_err(|fault| failure(&fault))
    }

    async fn fetch(&self, flight: &mut Flight, deadline: Instant) -> Result<Arc<Token>, TokenFault> {
        let began = Instant::now();
        match token_endpoint::fetch(&self.http.client(), &self.credentials, deadline).await {
            Ok(grant) => {
                flight.generation += 1;
                flight.failed = None;
                let token = Arc::new(Token { grant, generation: flight.generation });
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                *lock(&self.refresh_after) = None;
                Ok(token)
            }
            Err(fault) => {
                if fault.http_status.is_none() {
                    self.http.unanswered(began);
                }
                flight.failed = Some((Instant::now(), fault.clone()));
                self.log(&fault);
                Err(fault)
            }
        }
    }

    fn log(&self, fault: &TokenFault) {
        let mut logged = lock(&self.logged);
        if logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        *logged = Some(Instant::now());
        tracing::error!(http_status = fault.http_status, "no access token: {}", fault.message);
    }
}

fn failure(fault: &TokenFault) -> CallFailure {
    CallFailure::unanswered(FailureKind::Network, fault.message.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
