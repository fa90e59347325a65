//! Readers of values that one key alone has.

use super::super::{
    urls::{RedisUrl, parse_redis_url},
    value::{Input, Problems, Separator, Value, quote},
};
use secrecy::SecretString;
use url::Url;

pub(super) fn read_redis_urls(input: &Input<'_>) -> Result<Vec<SecretString>, Problems> {
    let is_text = matches!(input.value, Value::Text(_));
    let urls = if is_text { vec![input.text()?] } else { input.each(Separator::CommaBeforeUrl, text_item)? };
    if urls.is_empty() || urls.len() > 64 {
        return Err("from 1 to 64 URLs are wanted".to_owned().into());
    }
    let mut faults = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let fault = match parse_redis_url(url) {
            Ok(RedisUrl::Sentinel(_)) if urls.len() > 1 => "a sentinel URL stands alone, not in an array".to_owned(),
            Ok(_) => continue,
            Err(fault) => fault,
        };
        faults.push(if urls.len() > 1 { format!("item {}: {fault}", index + 1) } else { fault });
    }
    if faults.is_empty() { Ok(urls.into_iter().map(SecretString::from).collect()) } else { Err(Problems(faults)) }
}

pub(super) fn read_namespace(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    // It stands within a hash tag, `{xco:0}`: a brace or colon would move keys to other slots.
    if text.len() > 64 || !text.bytes().all(allowed) {
        return Err("a namespace is 1 to 64 of A-Z a-z 0-9 _ . -".to_owned());
    }
    Ok(text)
}

pub(super) fn read_filter(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    match tracing_subscriber::EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err("not a filter such as info, debug or info,xco_worker=debug".to_owned()),
    }
}

/// An `http(s)` URL without user, query and fragment; returned without slashes at the end.
pub(super) fn read_public_url(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(&text) {
        Ok(url) if is_plain(&url) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("a URL such as https://jobs.shop.example is wanted".to_owned()),
    }
}

/// `scheme://host[:port]`, in the spelling that browsers send in `Origin`.
pub(super) fn read_origin(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url.map(|url| url.origin().ascii_serialization()) {
        Some(origin) if origin == text => Ok(origin),
        Some(origin) => Err(format!("{} is no origin: write {origin}", quote(&text))),
        None => Err(format!("{} is no origin such as https://shop.example", quote(&text))),
    }
}

pub(super) fn read_environment(input: &Input<'_>) -> Result<String, String> {
    let text = input.text()?;
    let is_short = text.chars().count() <= 32;
    if is_short { Ok(text) } else { Err("at most 32 characters".to_owned()) }
}

/// An item as text. A function of its own: a method's path is not general enough over lifetimes to be passed on.
pub(super) fn text_item(item: &Input<'_>) -> Result<String, String> {
    item.text()
}
