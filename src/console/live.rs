//! `/console/live`: the parts of a page, again whenever they change.

use super::{
    error::{Answer, ConsoleError},
    fields::Fields,
    pages::{dead::runs, job, overview},
    shell::Part,
    sight::Sight,
    state::{ConsoleState, EVERY},
    visitor::Visitor,
};
use crate::operations::{Error, dead_letters::runs::RunName, sessions};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, header::ACCEPT},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, stream};
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

/// How often a stream looks whether its session has ended.
const SESSION_EVERY: Duration = Duration::from_secs(10);
/// A look that takes longer than this doubles the time to the next.
const SLOW: Duration = Duration::from_secs(1);
/// A comment is sent after this time without an event.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A page with live parts.
enum LivePage {
    /// With the charts of the last hour, or without charts.
    Overview { has_charts: bool },
    /// The job with this id.
    Job(String),
    /// The replay or discard with this name.
    Run(RunName),
}

struct Reader {
    state: Arc<ConsoleState>,
    visitor: Visitor,
    page: LivePage,
    /// Hashes of the parts that the page has.
    sent: HashMap<&'static str, u64>,
    events: VecDeque<Event>,
    next_at: Instant,
    session_at: Instant,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Streams the parts of a page. It ends with the session, with the page's job or run, and when the gateway stops.
pub(super) async fn live(
    State(state): State<Arc<ConsoleState>>,
    visitor: Result<Visitor, ConsoleError>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    let visitor = match visitor {
        // A page that is still open has to say so: it cannot follow a redirect to the login.
        Err(ConsoleError::LoginNeeded { .. })
            if headers.get(ACCEPT).is_some_and(|kinds| kinds == "text/event-stream") =>
        {
            return Ok(Sse::new(stream::iter([Ok::<_, Infallible>(session_has_ended())])).into_response());
        }
        visitor => visitor?,
    };
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let page = match (fields.get("page"), fields.get("id")) {
        (Some("overview"), _) => {
            visitor.principal.require_all_merchants()?;
            LivePage::Overview { has_charts: fields.get("range").is_none_or(|range| range == "1h") }
        }
        (Some("job"), Some(id)) => LivePage::Job(id.to_owned()),
        (Some("run"), Some(name)) => LivePage::Run(runs::name_of(name)?),
        _ => return Err(ConsoleError::Invalid("this page has no live parts".to_owned())),
    };
    let permit = Arc::clone(&state.streams).try_acquire_owned();
    let permit = permit.map_err(|_| ConsoleError::Refused {
        sentence: "Too many pages are open.".to_owned(),
        remedy: "Close some, or reload the page by hand.".to_owned(),
    })?;
    let now = Instant::now();
    let reader = Reader {
        state,
        visitor,
        page,
        sent: HashMap::new(),
        events: VecDeque::new(),
        next_at: now,
        session_at: now + SESSION_EVERY,
        has_ended: false,
        _permit: permit,
    };
    let mut response = Sse::new(events(reader)).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx would otherwise hold events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn session_has_ended() -> Event {
    Event::default().event("session").data("{}")
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(reader, |mut reader| async move {
        loop {
            if let Some(event) = reader.events.pop_front() {
                return Some((Ok(event), reader));
            }
            if reader.has_ended {
                return None;
            }
            let draining = reader.state.draining.clone();
            tokio::select! {
                () = sleep_until(reader.next_at) => {}
                () = draining.cancelled() => return None,
            }
            reader.tick().await;
        }
    })
}

impl Reader {
    async fn tick(&mut self) {
        let began = Instant::now();
        if began >= self.session_at {
            self.session_at = began + SESSION_EVERY;
            if self.session_has_ended().await {
                self.has_ended = true;
                self.events.push_back(session_has_ended());
                return;
            }
        }
        match self.parts().await {
            Ok((parts, at)) => {
                let is_slow = began.elapsed() > SLOW;
                self.push(parts);
                let tick = json!({"at": at, "slow": is_slow});
                self.events.push_back(Event::default().event("tick").data(tick.to_string()));
                if self.has_ended {
                    // Without it the browser would ask again, for ever.
                    self.events.push_back(Event::default().event("end").data("{}"));
                }
                self.next_at = began + if is_slow { EVERY * 2 } else { EVERY };
            }
            Err(error) => {
                if let ConsoleError::Operation(Error::Redis { reason, .. }) = &error
                    && matches!(self.page, LivePage::Overview { .. })
                {
                    self.push(overview::verdict_without_redis(reason).into_iter().collect());
                }
                self.events.push_back(Event::default().event("stale").data("{}"));
                self.next_at = Instant::now() + EVERY * 2;
            }
        }
    }

    /// A session that cannot be looked up goes on: Redis is away, and the page says so.
    async fn session_has_ended(&self) -> bool {
        let Some((secret, _)) = &self.visitor.session else { return false };
        matches!(sessions::goes_on(&mut self.state.shared.backend(), secret).await, Ok(false))
    }

    /// The parts of the page, and the time of their figures.
    async fn parts(&mut self) -> Result<(Vec<Part>, String), ConsoleError> {
        match &self.page {
            LivePage::Overview { has_charts } => {
                let look = self.state.look().await?;
                let mut parts = overview::parts(&look)?;
                if *has_charts {
                    parts.extend(overview::charts_of_hour(&look)?);
                }
                parts.extend(overview::below(&look, Sight::of(&self.visitor))?);
                Ok((parts, look.snapshot.at.clone()))
            }
            LivePage::Job(id) => {
                let (parts, at, has_ended) = job::live_parts(&self.state, &self.visitor, id).await?;
                self.has_ended = has_ended;
                Ok((parts, at))
            }
            LivePage::Run(name) => {
                let (parts, at, has_ended) = runs::live_parts(&self.state, &self.visitor, name).await?;
                self.has_ended = has_ended;
                Ok((parts, at))
            }
        }
    }

    /// Queues the parts that have changed.
    fn push(&mut self, parts: Vec<Part>) {
        for part in parts {
            let mut hasher = DefaultHasher::new();
            part.html.hash(&mut hasher);
            let hash = hasher.finish();
            if self.sent.insert(part.id, hash) != Some(hash) {
                let data = json!({"id": part.id, "html": part.html});
                self.events.push_back(Event::default().event("part").data(data.to_string()));
            }
        }
    }
}
