//! Whether a form was sent by a page of the console: no other site may act in a visitor's name.

use axum::http::{HeaderMap, header};

/// Checks `Sec-Fetch-Site`, which a page cannot set. Browsers send it to trustworthy addresses only; where it is missing,
/// `Origin` must be `public_url` or the `Host` of the request.
pub(super) fn is_ours(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    if public_url.is_some_and(|url| url.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = text(header::HOST).unwrap_or_default();
    let named = origin.split_once("://").map_or("", |(_, host)| host);
    !host.is_empty() && named.eq_ignore_ascii_case(host)
}

/// Whether the request comes from a link on another site: the browser then holds back the console's cookies.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap())
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn only_forms_of_our_own_pages_are_ours() {
        let url = Some("https://jobs.shop.example");
        for (pairs, ours) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://jobs.shop.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://jobs.shop.example"), ("host", "gw:8080")], true),
            (&[("origin", "http://gw:8080"), ("host", "gw:8080")], true),
            (&[("origin", "https://evil.example"), ("host", "gw:8080")], false),
            (&[("origin", "null"), ("host", "gw:8080")], false),
            (&[("host", "gw:8080")], false),
            (&[("origin", "http://"), ("host", "")], false),
        ] {
            assert_eq!(is_ours(&headers(pairs), url), ours, "{pairs:?}");
        }
    }
}
