//! `/console/callers`: limits that XCO answered with 429 lately, and what was learned of them.

use crate::{
    console::{
        error::{Answer, html},
        shell::{Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, count_of, shown},
        visitor::Visitor,
    },
    operations::{age, status::LearnedLimitFigures},
};
use askama::Template;
use axum::{extract::State, http::StatusCode};
use std::{cmp::Reverse, sync::Arc};

/// How a bucket of a caller is called.
const CALLER: &str = "caller:";

#[derive(Template)]
#[template(path = "callers.html")]
struct CallersPage {
    shell: Shell,
    title: String,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    closed: String,
    learned: String,
    last: String,
}

impl Row {
    fn new(limit: &LearnedLimitFigures, sight: Sight) -> Self {
        let name = match limit.bucket.strip_prefix(CALLER) {
            Some(caller) => format!("caller {}", sight.caller(caller)),
            None if limit.bucket == "client" => "calls without a caller".to_owned(),
            None => shown(&limit.bucket),
        };
        Self {
            name,
            closed: limit.closed_for_ms.map(age).unwrap_or_default(),
            learned: limit
                .calls_per_second
                .map(|rate| format!("{}/s", crate::console::text::rate(rate)))
                .unwrap_or_default(),
            last: shown(&limit.last_429_at),
        }
    }

    fn clock(&self) -> &str {
        clock(&self.last)
    }
}

/// The limits that met a 429 lately: the closed ones first, those that are closed longest before the others.
pub(in crate::console) async fn page(State(state): State<Arc<ConsoleState>>, visitor: Visitor) -> Answer {
    visitor.principal.require_all_merchants()?;
    let look = state.look().await?;
    let sight = Sight::of(&visitor);
    let mut limits: Vec<_> = look.snapshot.learned_limits.iter().collect();
    limits.sort_by_key(|limit| Reverse(limit.closed_for_ms));
    let page = CallersPage {
        shell: Shell::new(&state, &visitor, Place::Callers).at(&look.snapshot.at),
        title: title_of(&limits),
        rows: limits.into_iter().map(|limit| Row::new(limit, sight)).collect(),
    };
    Ok(html(StatusCode::OK, &page))
}

fn title_of(limits: &[&LearnedLimitFigures]) -> String {
    let closed: Vec<_> = limits.iter().filter_map(|limit| limit.closed_for_ms).collect();
    match closed.iter().max() {
        None if limits.is_empty() => "No caller met a 429 lately.".to_owned(),
        None => "No caller is closed by XCO: all are served.".to_owned(),
        Some(longest) => {
            let count = u64::try_from(closed.len()).unwrap_or(u64::MAX);
            let closed = count_of(count, "limit is closed by XCO", "limits are closed by XCO");
            format!("{closed}, the last for {}.", age(*longest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_no_caller_and_the_title_tells_who_is_closed() {
        let limit = |bucket: &str, closed_for_ms| LearnedLimitFigures {
            partition: 0,
            bucket: bucket.to_owned(),
            calls_per_second: Some(1.8),
            closed_for_ms,
            last_429_at: "2026-01-31T03:12:28.000Z".to_owned(),
        };
        let (one, client) = (limit("caller:start_otp:192.0.2.7", Some(72_000)), limit("client", None));
        assert!(!Row::new(&one, Sight::Masked).name.contains("192.0.2.7"));
        assert_eq!(Row::new(&one, Sight::Full).name, "caller start_otp:192.0.2.7");
        assert_eq!(Row::new(&client, Sight::Masked).name, "calls without a caller");
        assert_eq!(title_of(&[]), "No caller met a 429 lately.");
        assert_eq!(title_of(&[&one, &client]), "1 limit is closed by XCO, the last for 1 m 12 s.");
    }
}
