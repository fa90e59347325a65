//! Every page with hostile values in every text: no tag, no control of the direction of text gets through.
#![allow(clippy::unwrap_used)]

use super::{
    pages::{audit, cancel, job, jobs, login, overview},
    shell::{Place, Shell},
    sight::Sight,
    state::ConsoleState,
    stylesheet_tests::gzip,
    visitor::{Theme, Visitor},
};
use crate::{
    access::{Principal, Tokens},
    config::{Config, GatewayRole, GatewayToken},
    operations::{
        SharedBackend,
        audit::AuditEntry,
        board::{Board, Look},
        dead_letters::runs::Runs,
        status::Snapshot,
        verdict,
    },
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=x>\u{202e}gpj\u{2066}\u{1b}[2J";
/// As long as an id may be.
pub(super) const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(super) fn console(roles: Vec<GatewayRole>) -> (Arc<ConsoleState>, Visitor) {
    let mut config = Config::default();
    HOSTILE.clone_into(&mut config.gateway.environment);
    config.gateway.tokens = vec![GatewayToken {
        name: HOSTILE.chars().take(64).collect(),
        sha256: Sha256::digest(b"secret").into(),
        roles,
        merchants: Vec::new(),
    }];
    let config = Arc::new(config);
    let tokens = Arc::new(Tokens::new(&config.gateway.tokens, config.xco.merchant_id.as_ref()));
    let principal =
        Principal { token: tokens.find("secret").unwrap(), person: Some(HOSTILE.to_owned()), from: HOSTILE.to_owned() };
    let visitor = Visitor {
        principal,
        session: None,
        csrf: "c".repeat(64),
        theme: Theme::Dark,
        page: Some("/console/jobs?q='><script>".to_owned()),
    };
    let shared = Arc::new(SharedBackend::new(&config.redis).unwrap());
    let runs = Runs::new(Arc::clone(&config));
    (ConsoleState::new(config, shared, runs, tokens, Arc::new(Board::new(0)), CancellationToken::new()), visitor)
}

fn check(name: &str, html: &str) {
    for banned in ["<script>", "<img", "\u{202e}", "\u{2066}", "\u{1b}"] {
        assert!(!html.contains(banned), "{name} has {banned:?}:\n{html}");
    }
    assert_eq!(html.matches("<h1").count(), 1, "{name}: one h1");
    assert!(html.contains("lang=\"en\"") && html.contains("<main id=\"main\""), "{name}");
    let most = 14 * 1_024;
    assert!(gzip(html) <= most, "{name}: {} bytes packed", gzip(html));
}

fn look() -> Look {
    let mut snapshot = Snapshot { at: "2026-01-31T03:12:28.000Z".to_owned(), ..Snapshot::default() };
    snapshot.dead_letters.by_kind = [(HOSTILE.to_owned(), 3)].into();
    snapshot.dead_letters.total = 3;
    let verdict = verdict::without_redis(HOSTILE);
    Look { snapshot, hour: Vec::new(), verdict, took: Duration::ZERO }
}

#[tokio::test]
async fn no_page_lets_a_tag_through() {
    let (state, visitor) = console(GatewayRole::ALL.to_vec());
    let shell = || Shell::new(&state, &visitor, Place::Jobs);
    check("overview", &overview::rendered(shell(), &look(), Sight::Full).unwrap());
    check("login", &login::rendered(&state, HOSTILE).unwrap());
    check("job", &job::rendered(shell(), HOSTILE).unwrap());
    check("cancel", &cancel::rendered(shell(), HOSTILE).unwrap());
    check("jobs", &jobs::rendered(shell(), &format!("{LONG}{HOSTILE}"), 50).unwrap());
    let entry = AuditEntry {
        at: "2026-01-31T03:12:28.000Z".to_owned(),
        who: HOSTILE.to_owned(),
        from: HOSTILE.to_owned(),
        action: HOSTILE.to_owned(),
        what: json!({HOSTILE: HOSTILE, "caller": HOSTILE, "list": [HOSTILE]}),
        count: u64::MAX,
    };
    check("audit", &audit::rendered(shell(), &vec![entry; 50], HOSTILE).unwrap());
}

#[tokio::test]
async fn the_role_read_sees_fingerprints_and_no_actions() {
    let (_, visitor) = console(vec![GatewayRole::Read]);
    assert!(!visitor.may_operate());
    let sight = Sight::of(&visitor);
    assert_eq!(sight, Sight::Masked);
    assert!(sight.caller("203.0.113.9").starts_with("sha256:"));
    let audited = sight.audited(&json!({"jobs": {"caller": "203.0.113.9"}, "filter": {"customer_reference": ["c-1"]}}));
    assert!(!audited.contains("203.0.113.9") && !audited.contains("c-1"), "{audited}");
    assert_eq!(sight.audited(&json!({"http_status": [503, 503]})), "http_status 503");
    assert_eq!(sight.audited(&json!({"http_status": [500, 599]})), "http_status 500 to 599");
    assert_eq!(Sight::Full.caller("203.0.113.9"), "203.0.113.9");
}
