//! `/console/login`: a token becomes a session. Logging out, and the choice of colours.

use crate::{
    access::{Principal, from, person_name},
    console::{
        error::{Answer, ConsoleError, html},
        fields::Fields,
        form::{OpenForm, VisitorForm},
        state::ConsoleState,
        text::shown,
        visitor::{Theme, may_look, session_cookie, visitor_of},
    },
    net::PeerAddress,
    operations::sessions,
};
use askama::Template;
use axum::{
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

/// How long a wrong token waits for its answer.
const WRONG_AFTER: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    environment: String,
    theme: Theme,
    /// The page that was asked for.
    next: String,
    person: String,
    /// Why there is no session (any more); empty: no reason.
    why: &'static str,
    error: &'static str,
}

/// The form.
pub(in crate::console) async fn page(State(state): State<Arc<ConsoleState>>, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let fields = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let next = own_page(fields.get("next").unwrap_or_default());
    if visitor_of(&state, &parts).await?.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    let had_session = crate::console::visitor::cookie(&parts.headers, session_cookie(state.is_https())).is_some();
    let why = match fields.get("out") {
        Some(_) => "You are logged out.",
        None if had_session => {
            "Your session has ended: after 8 hours without a request, 12 hours in all, or because the token was removed."
        }
        None => "",
    };
    let page = login_page(&state, &parts.headers, next, why);
    Ok(html(StatusCode::OK, &page))
}

fn login_page(state: &ConsoleState, headers: &HeaderMap, next: &str, why: &'static str) -> LoginPage {
    LoginPage {
        environment: shown(&state.config.gateway.environment),
        theme: Theme::of(headers),
        next: next.to_owned(),
        person: String::new(),
        why,
        error: "",
    }
}

/// Begins a session. Every wrong token gets the same answer.
pub(in crate::console) async fn log_in(State(state): State<Arc<ConsoleState>>, request: Request) -> Answer {
    let headers = request.headers().clone();
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let OpenForm(fields) = OpenForm::from_request(request, &state).await?;
    let next = own_page(fields.get("next").unwrap_or_default());
    let again = |status, error| {
        let person = shown(fields.get("person").unwrap_or_default());
        Ok(html(status, &LoginPage { person, error, ..login_page(&state, &headers, next, "") }))
    };
    if !state.tries.count(peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())) {
        return again(StatusCode::TOO_MANY_REQUESTS, "Too many tries. Wait a minute.");
    }
    let Ok(person) = person_name(fields.get("person").unwrap_or_default()) else {
        return again(StatusCode::BAD_REQUEST, "Give your name, 1 to 64 characters: the audit keeps it.");
    };
    let token = state.tokens.find(fields.get("token").unwrap_or_default());
    let principal = token.map(|token| Principal { token, person: Some(person.clone()), from: from("console", peer) });
    let Some(principal) = principal.filter(may_look) else {
        tokio::time::sleep(WRONG_AFTER).await;
        return again(StatusCode::FORBIDDEN, "This token does not open the console.");
    };
    let (secret, _) = sessions::begin(&mut state.shared.backend(), principal.token.digest(), &person).await?;
    let cookie = session(&state, secret.expose(), "");
    Ok(with_cookie(Redirect::to(next).into_response(), &cookie))
}

/// Ends the session here, or with `everywhere` all of the person's.
pub(in crate::console) async fn log_out(State(state): State<Arc<ConsoleState>>, form: VisitorForm) -> Answer {
    let Some((secret, session_data)) = &form.visitor.session else {
        return Ok(Redirect::to("/console").into_response());
    };
    let mut backend = state.shared.backend();
    if form.fields.has("everywhere") {
        sessions::end_all(&mut backend, session_data).await?;
    }
    sessions::end(&mut backend, secret).await?;
    let cookie = session(&state, "", "; Max-Age=0");
    Ok(with_cookie(Redirect::to("/console/login?out=1").into_response(), &cookie))
}

/// Keeps the visitor's choice of colours in a cookie, so that a page never shows the other ones first.
#[allow(clippy::unused_async)] // Handlers are asynchronous.
pub(in crate::console) async fn set_theme(State(state): State<Arc<ConsoleState>>, form: VisitorForm) -> Answer {
    let wrong = || ConsoleError::Invalid("there are no such colours".to_owned());
    let theme = form.fields.get("theme").and_then(Theme::from_name).ok_or_else(wrong)?;
    let secure = if state.is_https() { "; Secure" } else { "" };
    let cookie = format!(
        "{}={}; Path=/console; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}",
        Theme::COOKIE,
        theme.as_str()
    );
    let next = own_page(form.fields.get("next").unwrap_or_default());
    Ok(with_cookie(Redirect::to(next).into_response(), &cookie))
}

fn session(state: &ConsoleState, secret: &str, more: &str) -> String {
    let secure = if state.is_https() { "; Secure" } else { "" };
    let name = session_cookie(state.is_https());
    format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}{more}")
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The page to go to: one of the console's own, whatever the address says.
fn own_page(next: &str) -> &str {
    let is_ours = next == "/console" || next.starts_with("/console/") || next.starts_with("/console?");
    let is_plain = next.len() <= 2_000 && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours && is_plain && !next.starts_with("/console/log") { next } else { "/console" }
}

/// The page with this text in every field.
#[cfg(test)]
pub(in crate::console) fn rendered(state: &ConsoleState, text: &str) -> Result<String, askama::Error> {
    let page = login_page(state, &HeaderMap::new(), own_page(text), "");
    LoginPage { person: shown(text), ..page }.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_come_next() {
        for ours in ["/console", "/console/jobs?q=a%20b", "/console?range=1h"] {
            assert_eq!(own_page(ours), ours);
        }
        for other in [
            "",
            "//evil.example",
            "https://evil.example",
            "/console\\@evil",
            "/consolex",
            "/console/logout",
            "/v1/jobs",
            "/console/a\nb",
        ] {
            assert_eq!(own_page(other), "/console", "{other}");
        }
    }
}
