//! The XCO client over reqwest.

use super::{
    Answer, Call, CallContext, CallFailure, CallReport, FailureKind, XcoApi, XcoSetupError, answer,
    coding::BodyFault,
    error::{self, ErrorAnswer, Policy},
    http_version,
    pool::Http,
    problem, retry_after,
    route::Route,
    setup,
    token::{Token, TokenCache},
    transport,
    wire::{self, Unsendable, WireRequest},
};
use crate::{config::XcoConfig, contract::JsonText, net::Names};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Instrument, Span, field};
use url::Url;

/// Maximum number of immediate repetitions of a request that the server reports as not processed. A server that closes
/// connections after a fixed number of requests may do so twice in a row. One that refuses everything is tried again
/// later.
const MAX_UNPROCESSED: u32 = 2;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The XCO client over reqwest: one connection pool and one access token for all callers. Cheap to clone.
///
/// A call ends within `xco.timeout`. The access token may take at most three quarters of it, which leaves time for the
/// answer.
#[derive(Clone)]
pub struct XcoClient {
    shared: Arc<ClientState>,
}

struct ClientState {
    http: Http,
    base_url: Url,
    api_key: Option<HeaderValue>,
    tokens: TokenCache,
    policy: Policy,
    timeout: Duration,
    max_response_bytes: usize,
}

impl fmt::Debug for XcoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XcoClient").field("base_url", &self.shared.base_url.as_str()).finish_non_exhaustive()
    }
}

/// Result of one HTTP request.
enum Sent {
    Done(Result<Answer, CallFailure>),
    /// A 401 about the token. Holds the failure to report if a new token does not help.
    TokenRefused(CallFailure),
    /// The server reports that it did not process the request.
    Unprocessed(CallFailure),
    /// Nothing was sent, because the server speaks another version of HTTP. The next request uses that version.
    OtherVersion(CallFailure),
}

impl XcoClient {
    /// Builds a client for `config`. Sends nothing.
    ///
    /// # Errors
    ///
    /// Names every key of `xco.*` that is missing or unusable, and what to do about it.
    pub fn new(config: &XcoConfig) -> Result<Self, XcoSetupError> {
        Self::with_names(config, Names::shared())
    }

    /// As [`XcoClient::new`], but with `names` as the resolver of host names.
    ///
    /// # Errors
    ///
    /// Names every key of `xco.*` that is missing or unusable, and what to do about it.
    pub fn with_names(config: &XcoConfig, names: Names) -> Result<Self, XcoSetupError> {
        let setup = setup::check(config)?;
        let http = Http::new(config, names.clone())?;
        Ok(Self {
            shared: Arc::new(ClientState {
                // The token endpoint has its own pool, because the two servers may speak different versions of HTTP.
                tokens: TokenCache::new(Http::new(config, names)?, setup.credentials),
                http,
                base_url: setup.base_url,
                api_key: setup.api_key,
                policy: Policy {
                    already_exists_types: config.already_exists_types.clone(),
                    invalid_code_statuses: config.invalid_code_statuses.clone(),
                },
                timeout: config.timeout,
                max_response_bytes: config.max_response_bytes,
            }),
        })
    }

    /// Fetches an access token if there is none. Returns the token's lifetime, counted from the request for it.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Network`] if there is no token within `xco.timeout`. The message says why and names the keys to
    /// check.
    pub async fn check_token(&self) -> Result<Duration, CallFailure> {
        let deadline = Instant::now() + self.shared.timeout;
        self.shared.tokens.get(deadline, None).await.map(|token| token.life())
    }

    /// Sends a request without a token to `xco.base_url` and returns its duration. Any HTTP answer counts as success.
    ///
    /// # Errors
    ///
    /// Name resolution, TCP, TLS or HTTP failed, or `xco.timeout` passed.
    pub async fn ping(&self) -> Result<Duration, CallFailure> {
        let began = Instant::now();
        let deadline = began + self.shared.timeout;
        let mut again = true;
        loop {
            let (client, version) = self.shared.http.client();
            return match tokio::time::timeout_at(deadline, client.get(self.shared.base_url.clone()).send()).await {
                Ok(Ok(_)) => Ok(began.elapsed()),
                Ok(Err(error)) => {
                    if std::mem::take(&mut again) && self.shared.http.wants_another_version(version, &error) {
                        continue;
                    }
                    self.shared.http.failed(&error, "xco.base_url");
                    Err(transport::failure(&error, true))
                }
                Err(_) => Err(transport::timed_out(true)),
            };
        }
    }
}

impl XcoApi for XcoClient {
    async fn call<'a>(&'a self, call: Call<'a>, context: CallContext<'a>) -> CallReport {
        let began = Instant::now();
        let mut calls = 0;
        let result = match wire::request(&self.shared.base_url, &call) {
            Ok(request) => {
                let span = tracing::info_span!(
                    "xco.call",
                    otel.kind = "client",
                    http.method = request.route.method(),
                    http.route = request.route.template(),
                    http.status = field::Empty,
                );
                self.shared.make(&request, &call, context, began, &mut calls).instrument(span).await
            }
            Err(why) => Err(unsendable(why)),
        };
        CallReport { result, calls, elapsed: began.elapsed() }
    }

    fn give_up_idle(&self) {
        self.shared.http.give_up_idle();
        self.shared.tokens.give_up_idle();
    }
}

fn unsendable(why: Unsendable) -> CallFailure {
    match why {
        Unsendable::DotSegment => CallFailure::unanswered(
            FailureKind::Validation,
            "the customer_reference `.` or `..` cannot be a segment of a URL's path; nothing was sent",
        ),
        Unsendable::Body => CallFailure::unanswered(FailureKind::Internal, "the request's body could not be written"),
    }
}

impl ClientState {
    async fn make(
        &self,
        request: &WireRequest,
        call: &Call<'_>,
        context: CallContext<'_>,
        began: Instant,
        calls: &mut u32,
    ) -> Result<Answer, CallFailure> {
        let deadline = began + self.timeout;
        let token_deadline = began + self.timeout / 4 * 3;
        let mut token = self.tokens.get(token_deadline, context.now).await?;
        let (mut fresh_token, mut unprocessed, mut changed_version) = (false, 0, false);
        loop {
            *calls += 1;
            match self.send(request, call, context, (&token, began), deadline).await {
                Sent::Done(result) => return result,
                // The token is kept. Dropping it would fetch two tokens a call from an API that refuses every token.
                Sent::TokenRefused(failure) if fresh_token => return Err(failure),
                Sent::TokenRefused(refused) => {
                    self.tokens.refuse(&token);
                    // XCO answered 401, so nothing was done. Without a new token the call counts as never made.
                    let without = |failure: CallFailure| CallFailure { http_status: refused.http_status, ..failure };
                    token = self.tokens.get(token_deadline, context.now).await.map_err(without)?;
                    fresh_token = true;
                }
                Sent::Unprocessed(failure) if unprocessed == MAX_UNPROCESSED => return Err(failure),
                Sent::Unprocessed(_) => unprocessed += 1,
                Sent::OtherVersion(failure) if changed_version => return Err(failure),
                Sent::OtherVersion(_) => {
                    changed_version = true;
                    *calls -= 1;
                }
            }
        }
    }

    async fn send(
        &self,
        request: &WireRequest,
        call: &Call<'_>,
        context: CallContext<'_>,
        (token, call_began): (&Token, Instant),
        deadline: Instant,
    ) -> Sent {
        let (http_request, sent) = match self.build(request, context, token) {
            Ok(built) => built,
            Err(failure) => return Sent::Done(Err(failure)),
        };
        // A GET has no body whose sending could be observed, so it counts as sent.
        let was_sent = || sent.as_ref().is_none_or(transport::SentMark::is_set);
        let began = Instant::now();
        let (client, version) = self.http.client();
        let mut response = match tokio::time::timeout_at(deadline, client.execute(http_request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let failure = transport::failure(&error, was_sent());
                let other_version = self.http.wants_another_version(version, &error);
                // HTTP_1_1_REQUIRED is both: a request was made, and the next one must use the other version.
                if http_version::is_unprocessed(&error) {
                    return Sent::Unprocessed(failure);
                }
                if other_version {
                    return Sent::OtherVersion(failure);
                }
                self.http.failed(&error, "xco.base_url");
                return Sent::Done(Err(failure));
            }
            Err(_) => {
                self.http.unanswered(began);
                return Sent::Done(Err(transport::timed_out(was_sent())));
            }
        };
        let status = response.status().as_u16();
        Span::current().record("http.status", status);
        let body =
            tokio::time::timeout_at(deadline, transport::read_body(&mut response, self.max_response_bytes)).await;
        if response.status().is_success() {
            return Sent::Done(understood(request.route, call, status, body));
        }
        // The status has decided already. An unreadable body only costs the problem document.
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        self.refused((request.route, call), &response, &body, (token, call_began), context.now)
    }

    fn build(
        &self,
        request: &WireRequest,
        context: CallContext<'_>,
        token: &Token,
    ) -> Result<(reqwest::Request, Option<transport::SentMark>), CallFailure> {
        let internal = |what: &str| CallFailure::unanswered(FailureKind::Internal, format!("{what} cannot be sent"));
        let bearer = token.bearer().ok_or_else(|| internal("the access token"))?;
        let method = if request.body.is_some() { reqwest::Method::POST } else { reqwest::Method::GET };
        let mut http_request = reqwest::Request::new(method, request.url.clone());
        let mut sent = None;
        if let Some(bytes) = &request.body {
            let (body, mark) = transport::marked_body(bytes.clone());
            *http_request.body_mut() = Some(body);
            sent = Some(mark);
        }
        let headers = http_request.headers_mut();
        headers.insert(AUTHORIZATION, bearer.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        if sent.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(api_key) = &self.api_key {
            headers.insert(API_KEY, api_key.clone());
        }
        // `tracestate` means nothing without its parent. A value that is not a valid header is left out, as W3C asks.
        if let Some(Ok(parent)) = context.traceparent.map(HeaderValue::from_str) {
            headers.insert("traceparent", parent);
            if let Some(Ok(state)) = context.tracestate.map(HeaderValue::from_str) {
                headers.insert("tracestate", state);
            }
        }
        Ok((http_request, sent))
    }

    /// Classifies an answer of XCO that is not a 2xx.
    fn refused(
        &self,
        (route, call): (Route, &Call<'_>),
        response: &reqwest::Response,
        body: &[u8],
        (token, began): (&Token, Instant),
        now: Option<Timestamp>,
    ) -> Sent {
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let code = if let Call::VerifyOtp { code, .. } = call { Some(*code) } else { None };
        let document = problem::parse(body, code);
        let problem = document.as_ref().map(JsonText::value);
        let verdict = error::classify(
            ErrorAnswer {
                route,
                status,
                problem: problem.as_ref(),
                www_authenticate: header(WWW_AUTHENTICATE),
                token_expired: token.may_be_expired(began),
            },
            &self.policy,
        );
        let retry_after = if matches!(status, 429 | 503) {
            header(RETRY_AFTER)
                .and_then(|value| retry_after::parse(value, header(DATE), now.unwrap_or_else(Timestamp::now)))
        } else {
            None
        };
        let message = error::message(route, status, problem.as_ref());
        let failure = CallFailure {
            kind: verdict.kind,
            http_status: Some(status),
            problem: document,
            retry_after,
            message,
            remedy: None,
        };
        if verdict.token { Sent::TokenRefused(failure) } else { Sent::Done(Err(failure)) }
    }
}

/// Reads the answer in a 2xx. The body does not matter where the status is enough, not even a broken one.
fn understood(
    route: Route,
    call: &Call<'_>,
    status: u16,
    body: Result<Result<Vec<u8>, BodyFault>, tokio::time::error::Elapsed>,
) -> Result<Answer, CallFailure> {
    if !answer::needs_body(call) {
        return answer::parse(call, &[]).map_err(|why| unclear(route, status, FailureKind::Timeout, why));
    }
    match body {
        Ok(Ok(body)) => answer::parse(call, &body).map_err(|why| unclear(route, status, FailureKind::Timeout, why)),
        Ok(Err(BodyFault::TooLong)) => {
            Err(unclear(route, status, FailureKind::Timeout, "longer than xco.max_response_bytes"))
        }
        Ok(Err(BodyFault::Coding(name))) => {
            let why = format!("packed as {name}, which was not asked for");
            Err(unclear(route, status, FailureKind::Timeout, &why))
        }
        Ok(Err(BodyFault::Broken)) => Err(unclear(route, status, FailureKind::Broken, "the answer broke off")),
        Err(_) => Err(unclear(route, status, FailureKind::Timeout, "the answer did not end in time")),
    }
}

fn unclear(route: Route, status: u16, kind: FailureKind, why: &str) -> CallFailure {
    let message = format!("XCO's {status} to {} could not be understood: {why}", route.what());
    CallFailure { http_status: Some(status), ..CallFailure::unanswered(kind, message) }
}
