//! The headers of every page, and the colours of those that know no visitor.

use super::visitor::Theme;
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// Nothing but the console's own files; no script in a page, no style in a tag; nobody may frame a page.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types xco";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer` browsers send `Origin: null` on forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (header::CACHE_CONTROL, "no-store"),
];

tokio::task_local! {
    static THEME: Theme;
}

/// The theme that the sender of the request chose. Pages about an error know no visitor.
pub(super) fn theme() -> Theme {
    THEME.try_with(|theme| *theme).unwrap_or_default()
}

/// Adds the headers that an answer does not have.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let theme = Theme::of(request.headers());
    let mut response = THEME.scope(theme, next.run(request)).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
