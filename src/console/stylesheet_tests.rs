//! Contrast, recomputed from the stylesheet, and the budgets of all files.
#![allow(clippy::unwrap_used)]

use super::assets::{CSS, SCRIPT, SPRITE};
use flate2::{Compression, write::GzEncoder};
use std::{collections::BTreeMap, io::Write};

type Colours = BTreeMap<String, [f64; 3]>;

/// The colours that a rule sets, by name.
fn colours(selector: &str) -> Colours {
    let css = CSS.text;
    let begin = css.find(selector).unwrap() + selector.len();
    let body = &css[begin..begin + css[begin..].find('}').unwrap()];
    let declarations = body.split(';').filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
    declarations
        .map(|(name, hex)| {
            let part = |at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            (name.to_owned(), [part(0), part(2), part(4)])
        })
        .collect()
}

/// The contrast of WCAG 2.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let [red, green, blue] =
            colour.map(|part| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_is_legible_in_both_themes() {
    let (light, dark) =
        (colours(":root { color-scheme: light dark;"), colours(":root[data-theme=\"dark\"] { color-scheme: dark;"));
    assert_eq!(dark, colours(":root:not([data-theme]) {"), "the system's dark theme is the chosen one");
    for theme in [light, dark] {
        assert_eq!(theme.len(), 21, "{theme:?}");
        let check = |text: &str, ground: &str, least: f64| {
            let ratio = contrast(theme[text], theme[ground]);
            assert!(ratio >= least, "{text} on {ground}: {ratio:.2}");
        };
        for ground in ["bg", "surface", "raised"] {
            for text in ["text", "muted", "link", "ok", "wait", "warn", "bad", "idle"] {
                check(text, ground, 4.5);
            }
            check("control", ground, 3.0);
            check("focus", ground, 3.0);
        }
        for state in ["ok", "wait", "warn", "bad", "idle"] {
            check(state, &format!("{state}-tint"), 4.5);
        }
        check("on-link", "link", 4.5);
        check("surface", "bad", 4.5);
        check("text", "mark", 4.5);
    }
}

pub(super) fn gzip(text: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().len()
}

#[test]
fn files_stay_small() {
    for (asset, most, most_gzip) in [(&SCRIPT, 12, 4), (&CSS, 24, 6), (&SPRITE, 4, 4)] {
        let (bytes, packed) = (asset.text.len(), gzip(asset.text));
        assert!(bytes <= most * 1_024 && packed <= most_gzip * 1_024, "{}: {bytes} bytes, {packed} packed", asset.name);
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_nothing_is_inline() {
    assert!(!CSS.text.contains("url(") && !CSS.text.contains("@import"));
    for address in ["http://", "https://"] {
        assert!(!SCRIPT.text.contains(address));
        assert!(!SPRITE.text.replace("http://www.w3.org/2000/svg", "").contains(address));
    }
    for file in std::fs::read_dir("src/console/templates").unwrap().flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        }
    }) {
        let text = std::fs::read_to_string(&file).unwrap();
        for banned in ["style=", "<style", "onclick", "onload", "javascript:", "http://", "https://", "<script>"] {
            assert!(!text.contains(banned), "{}: {banned}", file.display());
        }
    }
}
