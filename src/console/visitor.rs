//! Who looks at a page, and what they may see and do.

use super::{error::ConsoleError, origin, state::ConsoleState};
use crate::{
    access::{Principal, from, only_this_machine},
    config::GatewayRole,
    net::{ConnectionHandle, PeerAddress},
    operations::sessions::{self, Session, SessionSecret},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use std::sync::Arc;

/// How the pages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];
    pub(super) const COOKIE: &str = "xco-theme";

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Its name, unless it is the system's.
    pub(super) fn chosen(self) -> Option<&'static str> {
        (self != Self::System).then(|| self.as_str())
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == name)
    }

    /// The theme that the visitor chose.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        cookie(headers, Self::COOKIE).and_then(Self::from_name).unwrap_or_default()
    }
}

/// Somebody who may look at pages: logged in, or on this machine where no tokens are configured.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) principal: Principal,
    /// `None` where no login is needed.
    pub(super) session: Option<(SessionSecret, Session)>,
    /// The secret that each form carries.
    pub(super) csrf: String,
    pub(super) theme: Theme,
    /// The page that is asked for; `None` for a form.
    pub(super) page: Option<String>,
}

impl Visitor {
    /// Whether actions are offered.
    pub(super) fn may_operate(&self) -> bool {
        self.principal.has(GatewayRole::Operate)
    }

    /// `ada (ops)`
    pub(super) fn name(&self) -> String {
        self.principal.actor().name().to_owned()
    }
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The name of the session's cookie. The prefix `__Host-` binds it to this host; browsers accept it by `https` alone.
pub(super) const fn session_cookie(is_https: bool) -> &'static str {
    if is_https { "__Host-xco" } else { "xco" }
}

/// Finds out who makes a request. `Ok(None)`: a login is needed.
pub(super) async fn visitor_of(state: &ConsoleState, parts: &Parts) -> Result<Option<Visitor>, ConsoleError> {
    let theme = Theme::of(&parts.headers);
    let page = (parts.method == Method::GET).then(|| asked_for(parts));
    let from = from("console", parts.extensions.get::<PeerAddress>().map(|peer| peer.0));
    if let Some(token) = state.tokens.open() {
        only_this_machine(&parts.headers, &parts.uri)?;
        trust(parts);
        let principal = Principal { token, person: None, from };
        return Ok(Some(Visitor { principal, session: None, csrf: state.open_csrf.clone(), theme, page }));
    }
    let secret = cookie(&parts.headers, session_cookie(state.is_https())).and_then(SessionSecret::parse);
    let Some(secret) = secret else { return Ok(None) };
    let Some(session) = sessions::find(&mut state.shared.backend(), &secret).await? else { return Ok(None) };
    let Some(token) = state.tokens.with_digest(&session.token_sha256) else { return Ok(None) };
    trust(parts);
    let principal = Principal { token, person: Some(session.person.clone()), from };
    if !may_look(&principal) {
        return Ok(None);
    }
    let csrf = session.csrf.clone();
    Ok(Some(Visitor { principal, session: Some((secret, session)), csrf, theme, page }))
}

/// Whether a token opens the console.
pub(super) fn may_look(principal: &Principal) -> bool {
    principal.has(GatewayRole::Read) || principal.has(GatewayRole::Operate)
}

fn trust(parts: &Parts) {
    if let Some(connection) = parts.extensions.get::<ConnectionHandle>() {
        connection.trust();
    }
}

/// The page that was asked for. The console is nested, so the path lacks its beginning. A form is not sent twice.
fn asked_for(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().filter(|_| parts.method == Method::GET).map_or("/", |path| path.as_str());
    match path.strip_prefix('/') {
        Some(query) if query.is_empty() || query.starts_with('?') => format!("/console{query}"),
        _ => format!("/console{path}"),
    }
}

/// A handler with it as an argument is for visitors alone. Others are led to the login.
impl FromRequestParts<Arc<ConsoleState>> for Visitor {
    type Rejection = ConsoleError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ConsoleState>) -> Result<Self, ConsoleError> {
        match visitor_of(state, parts).await? {
            Some(visitor) => {
                visitor.principal.token.rate().request().map_err(ConsoleError::TooMany)?;
                Ok(visitor)
            }
            None if parts.method == Method::GET && origin::is_from_elsewhere(&parts.headers) => {
                Err(ConsoleError::FromElsewhere)
            }
            None => Err(ConsoleError::LoginNeeded { next: asked_for(parts) }),
        }
    }
}
