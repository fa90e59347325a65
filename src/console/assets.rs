//! Stylesheet, script and symbols. They are in the program. Their address has a hash of what they contain, so that a browser keeps
//! them for good.

use super::error::ConsoleError;
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::{fmt::Write, sync::LazyLock};

/// A file of the console.
pub(super) struct Asset {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    kind: &'static str,
}

pub(super) static CSS: Asset =
    Asset { name: "console.css", text: include_str!("assets/console.css"), kind: "text/css; charset=utf-8" };
pub(super) static SCRIPT: Asset =
    Asset { name: "console.js", text: include_str!("assets/console.js"), kind: "text/javascript; charset=utf-8" };
pub(super) static SPRITE: Asset =
    Asset { name: "sprite.svg", text: include_str!("assets/sprite.svg"), kind: "image/svg+xml" };

static ADDRESSES: LazyLock<[String; 3]> = LazyLock::new(|| [&CSS, &SCRIPT, &SPRITE].map(Asset::address));

/// The address of the stylesheet.
pub(super) fn css() -> &'static str {
    &ADDRESSES[0]
}

/// The address of the script.
pub(super) fn script() -> &'static str {
    &ADDRESSES[1]
}

/// The address of the symbols.
pub(super) fn sprite() -> &'static str {
    &ADDRESSES[2]
}

impl Asset {
    fn hash(&self) -> String {
        Sha256::digest(self.text.as_bytes()).iter().take(6).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn address(&self) -> String {
        format!("/console/assets/{}.{}", self.name, self.hash())
    }
}

/// Answers with a file. One of another version is not found.
#[allow(clippy::unused_async)] // Handlers are asynchronous.
pub(super) async fn serve(Path(file): Path<String>) -> Result<Response, ConsoleError> {
    let known = [&CSS, &SCRIPT, &SPRITE];
    let asset = known
        .into_iter()
        .find(|asset| file.strip_prefix(asset.name).and_then(|rest| rest.strip_prefix('.')) == Some(&asset.hash()))
        .ok_or_else(|| ConsoleError::NotFound("there is no such file".to_owned()))?;
    let mut response = asset.text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
