//! The access token: one caller fetches it for all. It is refreshed before it expires and replaced when XCO refuses it.
//!
//! There is no background task: callers do the work. After [`REFRESH_AT_PERCENT`] of a token's lifetime one caller
//! fetches the next token, while the others continue with the current one. Without a current token all callers wait for
//! the one that fetches.
//!
//! A failing token endpoint means that a call was never sent: [`FailureKind::Network`], which is retried. It is logged
//! as an error, at most once every [`LOG_EVERY`].
//!
//! The endpoint can answer that it is useless to ask again: a refusal of the client (400, 401, 403), or a 429 or 503
//! that asks for time. No caller asks again before that time is over ([`Pause`]). A caller that needs a token gets the
//! remaining time at once, in [`CallFailure::retry_after`]. Its job is delayed without spending an attempt, because a
//! mistyped secret must delay jobs and not turn them into dead letters.

use super::{
    CallFailure, FailureKind,
    pool::Http,
    setup::Credentials,
    token_endpoint::{self, EndpointClosed, Grant, TokenFault},
};
use crate::net::Backoff;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The part of a token's lifetime after which the next token is fetched, in percent.
const REFRESH_AT_PERCENT: u32 = 80;
/// Pause after a failed early refresh. The current token remains in use.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);
/// First pause after a refusal, or after a 429 without `Retry-After`. Doubled for each one in a row, up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a refusal, or after a 429 without `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Minimum time between two log messages about a failing token endpoint.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// Lifetime of a token for which the endpoint reports none.
pub(super) const DEFAULT_LIFE: Duration = Duration::from_secs(300);

/// A token in use.
pub(super) struct Token {
    grant: Grant,
    /// The header that carries it, made once for all calls. `None` if the token cannot be in a header.
    bearer: Option<HeaderValue>,
    /// Higher than that of every earlier token.
    generation: u64,
}

impl Token {
    fn new(grant: Grant, generation: u64) -> Self {
        let bearer = HeaderValue::try_from(format!("Bearer {}", grant.token.expose_secret())).ok().map(|mut bearer| {
            bearer.set_sensitive(true);
            bearer
        });
        Self { grant, bearer, generation }
    }

    /// The value of `Authorization`; `None` if the token cannot be in a header.
    pub(super) const fn bearer(&self) -> Option<&HeaderValue> {
        self.bearer.as_ref()
    }

    /// The token's lifetime, counted from the request for it.
    pub(super) fn life(&self) -> Duration {
        self.grant.life.unwrap_or(DEFAULT_LIFE)
    }

    /// Whether the token has expired by our clock.
    pub(super) fn is_expired(&self) -> bool {
        self.grant.asked.elapsed() >= self.life()
    }

    /// Whether the token may have expired, for a call that began at `began`: it has, or its lifetime is unknown. A
    /// token requested during the call is too young for that.
    pub(super) fn may_be_expired(&self, began: Instant) -> bool {
        self.is_expired() || self.grant.life.is_none() && self.grant.asked < began
    }

    fn wants_refresh(&self) -> bool {
        self.grant.asked.elapsed() >= self.life() * REFRESH_AT_PERCENT / 100
    }
}

/// State of the token fetcher: last generation, last failure, and the current pause. Guarded by the fetch lock.
struct Flight {
    generation: u64,
    failed: Option<(Instant, TokenFault)>,
    pause: Option<Pause>,
    /// Lengths of pauses whose length the endpoint did not determine.
    pauses: Backoff,
}

impl Default for Flight {
    fn default() -> Self {
        Self { generation: 0, failed: None, pause: None, pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }
}

/// The endpoint must not be asked before `until`.
#[derive(Clone)]
struct Pause {
    until: Instant,
    fault: TokenFault,
}

impl Pause {
    /// The failure of a call that needs a token during the pause; `None` if the pause is over.
    fn failure(&self) -> Option<CallFailure> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| CallFailure { retry_after: Some(left), ..failure(&self.fault) })
    }
}

impl Flight {
    /// Starts a pause if the endpoint's failure asks for one.
    fn pause(&mut self, fault: &TokenFault) {
        let length = match fault.closed {
            Some(EndpointClosed::For(asked)) => asked,
            Some(EndpointClosed::Unsaid) => self.pauses.next_delay(),
            None if fault.refused => self.pauses.next_delay(),
            None => return,
        };
        self.pause = Some(Pause { until: Instant::now() + length, fault: fault.clone() });
    }
}

/// The token cache of one client.
pub(super) struct TokenCache {
    http: Http,
    credentials: Credentials,
    current: RwLock<Option<Arc<Token>>>,
    flight: tokio::sync::Mutex<Flight>,
    /// No early refresh before this time.
    refresh_after: Mutex<Option<Instant>>,
    /// The last generation that XCO refused, and when XCO refused it first.
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

    /// A token that is valid by our clock, at the latest by `deadline`.
    ///
    /// `now` is the time on a better clock than this machine's.
    pub(super) async fn get(&self, deadline: Instant, now: Option<Timestamp>) -> Result<Arc<Token>, CallFailure> {
        match self.in_hand() {
            Some(token) if !token.wants_refresh() => Ok(token),
            Some(token) => Ok(self.refresh_ahead(token, deadline, now).await),
            None => self.wait_for_one(deadline, now).await,
        }
    }

    /// Closes the idle connections to the token endpoint: see [`Http::give_up_idle`].
    pub(super) fn give_up_idle(&self) {
        self.http.give_up_idle();
    }

    /// Records that XCO refused `token`. It is not used again.
    pub(super) fn refuse(&self, token: &Token) {
        {
            let mut refused = self.refused.lock();
            if refused.is_none_or(|(generation, _)| generation < token.generation) {
                *refused = Some((token.generation, Instant::now()));
            }
        }
        let mut current = self.current.write();
        if current.as_ref().is_some_and(|held| held.generation == token.generation) {
            *current = None;
        }
    }

    /// The token to use. A token that was requested before another was refused may have been issued, and revoked,
    /// together with that one. It is not used.
    fn in_hand(&self) -> Option<Arc<Token>> {
        let current = self.current.read();
        let token = current.as_ref().filter(|token| !token.is_expired())?;
        let outdated = self.refused.lock().is_some_and(|(_, at)| token.grant.asked < at);
        (!outdated).then(|| Arc::clone(token))
    }

    /// Returns the next token if no other caller is fetching it. Otherwise, or if that fails, returns the current one.
    async fn refresh_ahead(&self, token: Arc<Token>, deadline: Instant, now: Option<Timestamp>) -> Arc<Token> {
        if self.refresh_after.lock().is_some_and(|after| Instant::now() < after) {
            return token;
        }
        let Ok(mut flight) = self.flight.try_lock() else { return token };
        // Another caller may have finished between the look at the token and the lock.
        match self.in_hand() {
            Some(held) if held.generation != token.generation => return held,
            _ => {}
        }
        if flight.pause.as_ref().is_some_and(|pause| pause.failure().is_some()) {
            return token;
        }
        // The current token is still valid: a slow endpoint must not use up this caller's time, nor outlast the token.
        let budget = deadline.saturating_duration_since(Instant::now()) / 4;
        let until = (Instant::now() + budget).min(token.grant.asked + token.life());
        // Set before the attempt, so that a caller cancelled during the fetch does not cause a stampede.
        *self.refresh_after.lock() = Some(Instant::now() + REFRESH_PAUSE);
        self.fetch(&mut flight, until, now).await.unwrap_or(token)
    }

    async fn wait_for_one(&self, deadline: Instant, now: Option<Timestamp>) -> Result<Arc<Token>, CallFailure> {
        let began = Instant::now();
        let Ok(mut flight) = tokio::time::timeout_at(deadline, self.flight.lock()).await else {
            return Err(CallFailure::unanswered(FailureKind::Network, "no access token in time"));
        };
        if let Some(token) = self.in_hand() {
            return Ok(token);
        }
        if let Some(paused) = flight.pause.as_ref().and_then(Pause::failure) {
            return Err(paused);
        }
        // A failure that arrived while this caller waited is its failure, too.
        if let Some((_, fault)) = flight.failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(failure(fault));
        }
        let fetched = self.fetch(&mut flight, deadline, now).await;
        fetched.map_err(|fault| flight.pause.as_ref().and_then(Pause::failure).unwrap_or_else(|| failure(&fault)))
    }

    async fn fetch(
        &self,
        flight: &mut Flight,
        deadline: Instant,
        now: Option<Timestamp>,
    ) -> Result<Arc<Token>, TokenFault> {
        let began = Instant::now();
        match token_endpoint::fetch(&self.http, &self.credentials, deadline, now).await {
            Ok(grant) => {
                flight.generation += 1;
                (flight.failed, flight.pause) = (None, None);
                flight.pauses.reset();
                let token = Arc::new(Token::new(grant, flight.generation));
                *self.current.write() = Some(Arc::clone(&token));
                *self.refresh_after.lock() = None;
                Ok(token)
            }
            Err(fault) => {
                if fault.http_status.is_none() {
                    self.http.unanswered(began);
                }
                flight.failed = Some((Instant::now(), fault.clone()));
                flight.pause(&fault);
                self.log(&fault, flight.pause.as_ref());
                Err(fault)
            }
        }
    }

    fn log(&self, fault: &TokenFault, pause: Option<&Pause>) {
        let mut logged = self.logged.lock();
        if logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        *logged = Some(Instant::now());
        let pause_s = pause
            .and_then(Pause::failure)
            .and_then(|failure| failure.retry_after)
            .map(|left| left.as_secs_f64().ceil());
        tracing::error!(http_status = fault.http_status, pause_s, "no access token: {}", fault.message);
    }
}

fn failure(fault: &TokenFault) -> CallFailure {
    CallFailure { remedy: fault.remedy, ..CallFailure::unanswered(FailureKind::Network, fault.message.clone()) }
}
