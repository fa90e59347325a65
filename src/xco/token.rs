//! The access token: fetched by one caller for all, refreshed ahead of its end, replaced when XCO refuses it.
//!
//! No task of its own: callers do the work. Past [`REFRESH_AT_PERCENT`] of a token's life one caller fetches the next
//! while the others go on with the one in hand; without a token in hand everybody waits for the one who fetches.
//!
//! A token endpoint that fails means that a call was never sent: [`FailureKind::Network`], to be tried again. It is logged
//! as an error, at most every [`LOG_EVERY`].
//!
//! There are two ways in which it says that asking again is of no use: a refusal of the client (400, 401, 403), and a 429
//! or 503 that asks for time. Then nobody asks before that time is over ([`Pause`]), and whoever needs a token is told at
//! once how long that is, in [`CallFailure::retry_after`]: the job waits outside, and it costs it no attempt. A mistyped
//! secret must delay jobs, not bury them.

use super::{
    CallFailure, FailureKind,
    pool::Http,
    setup::Credentials,
    token_endpoint::{self, Closed, Grant, TokenFault},
};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use secrecy::SecretString;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// When the next token is fetched, in percent of the life of the one in hand.
const REFRESH_AT_PERCENT: u32 = 80;
/// After a failed refresh ahead of time, the token in hand serves this long before the next try.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);
/// How long the endpoint is left alone after a refusal, or a 429 that does not say how long; doubled each time in a row,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a failing token endpoint is logged.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// A token whose life is not told is used this long.
pub(super) const DEFAULT_LIFE: Duration = Duration::from_secs(300);

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

    /// How long it is used.
    pub(super) fn life(&self) -> Duration {
        self.grant.life.unwrap_or(DEFAULT_LIFE)
    }

    /// Whether it is past its life by our clock.
    pub(super) fn is_expired(&self) -> bool {
        self.grant.asked.elapsed() >= self.life()
    }

    /// Whether it may be past its life, for a call that began at `began`: it is, or its life is not known. One that was
    /// asked for during the call is too young for that.
    pub(super) fn may_be_expired(&self, began: Instant) -> bool {
        self.is_expired() || self.grant.life.is_none() && self.grant.asked < began
    }

    fn wants_refresh(&self) -> bool {
        self.grant.asked.elapsed() >= self.life() * REFRESH_AT_PERCENT / 100
    }
}

/// State of the token fetcher: last generation, last failure, and until when the endpoint is not to be asked. Guarded by
/// the fetch lock.
#[derive(Default)]
struct Flight {
    generation: u64,
    failed: Option<(Instant, TokenFault)>,
    pause: Option<Pause>,
    /// Pauses of our own choosing in a row.
    pauses: u32,
}

/// The endpoint is not asked before `until`.
#[derive(Clone)]
struct Pause {
    until: Instant,
    fault: TokenFault,
}

impl Pause {
    /// The failure of a call that needs a token now, if the pause is not over.
    fn failure(&self) -> Option<CallFailure> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| CallFailure { retry_after: Some(left), ..failure(&self.fault) })
    }
}

impl Flight {
    /// The endpoint failed: whether it is to be left alone, and how long.
    fn pause(&mut self, fault: &TokenFault) {
        let length = match fault.closed {
            Some(Closed::For(asked)) => asked,
            Some(Closed::Unsaid) => self.next_pause(),
            None if fault.refused => self.next_pause(),
            None => return,
        };
        self.pause = Some(Pause { until: Instant::now() + length, fault: fault.clone() });
    }

    fn next_pause(&mut self) -> Duration {
        let length = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(8)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        length
    }
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
    ///
    /// `now`: the time on a better clock than this machine's.
    pub(super) async fn get(&self, deadline: Instant, now: Option<Timestamp>) -> Result<Arc<Token>, CallFailure> {
        match self.in_hand() {
            Some(token) if !token.wants_refresh() => Ok(token),
            Some(token) => Ok(self.refresh_ahead(token, deadline, now).await),
            None => self.wait_for_one(deadline, now).await,
        }
    }

    /// As [`Http::give_up_idle`].
    pub(super) fn give_up_idle(&self) {
        self.http.give_up_idle();
    }

    /// XCO refused `token`: nobody uses it from now on.
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

    /// The token to use. One that was asked for before another was refused may have been issued, and revoked, with that one.
    fn in_hand(&self) -> Option<Arc<Token>> {
        let current = self.current.read();
        let token = current.as_ref().filter(|token| !token.is_expired())?;
        let outdated = self.refused.lock().is_some_and(|(_, at)| token.grant.asked < at);
        (!outdated).then(|| Arc::clone(token))
    }

    /// The next token, if nobody else is fetching it; else, or if that fails, the one in hand.
    async fn refresh_ahead(&self, token: Arc<Token>, deadline: Instant, now: Option<Timestamp>) -> Arc<Token> {
        if self.refresh_after.lock().is_some_and(|after| Instant::now() < after) {
            return token;
        }
        let Ok(mut flight) = self.flight.try_lock() else { return token };
        // Somebody may have finished between the look at the token and the lock.
        match self.in_hand() {
            Some(held) if held.generation != token.generation => return held,
            _ => {}
        }
        if flight.pause.as_ref().is_some_and(|pause| pause.failure().is_some()) {
            return token;
        }
        // The one in hand still serves: a slow endpoint may not eat up this caller's time, nor outlast the token.
        let budget = deadline.saturating_duration_since(Instant::now()) / 4;
        let until = (Instant::now() + budget).min(token.grant.asked + token.life());
        // Set before the attempt, so that a caller who is cancelled in mid-fetch is not followed by a stampede.
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
        // A failure that came while this caller waited is this caller's too.
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
                (flight.failed, flight.pause, flight.pauses) = (None, None, 0);
                let token = Arc::new(Token { grant, generation: flight.generation });
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
