//! Checks at the end of a test: completions against jobs, and calls against attempts.

use super::{process::Process, support::Rig};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use xco_worker::sandbox::{CallRecord, Route};

/// Waits until every one of `ids` has completed.
pub(crate) async fn all_complete(rig: &mut Rig, ids: &BTreeSet<String>, seconds: u64) {
    let mut seen = 0;
    let mut missing = ids.clone();
    rig.follow(seconds, |completions| {
        for event in &completions[seen..] {
            missing.remove(event["id"].as_str().unwrap());
        }
        seen = completions.len();
        missing.is_empty()
    })
    .await;
}

/// Stops the workers in order. Fails unless exactly `ids` completed, each once, and nothing is left over.
pub(crate) async fn settle(rig: &mut Rig, workers: &mut [Process], ids: &BTreeSet<String>) {
    for worker in workers.iter_mut() {
        worker.stop().await;
    }
    rig.drain().await;
    let done: BTreeSet<String> = rig.completions.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let strange: Vec<_> = done.difference(ids).take(5).collect();
    assert!(strange.is_empty(), "completed, but never enqueued: {strange:?}");
    let missing: Vec<_> = ids.difference(&done).take(5).collect();
    assert!(missing.is_empty(), "never completed: {missing:?}");
    assert_eq!(rig.completions.len(), ids.len(), "some completed twice");
    rig.assert_clean().await;
}

pub(crate) fn of<'a>(rig: &'a Rig, id: &str) -> &'a Value {
    rig.completions.iter().find(|event| event["id"] == id).unwrap_or_else(|| panic!("no completion of {id}"))
}

/// Number of completions by `status`, with `outcome` or `error.kind`.
pub(crate) fn tally(rig: &Rig) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for event in &rig.completions {
        let why = event["outcome"].as_str().or(event["error"]["kind"].as_str()).unwrap_or("");
        *tally.entry(format!("{}/{why}", event["status"].as_str().unwrap())).or_default() += 1;
    }
    tally
}

/// Calls of one route by customer.
pub(crate) fn calls_by_key(rig: &Rig, route: Route) -> HashMap<String, Vec<CallRecord>> {
    let mut calls: HashMap<String, Vec<CallRecord>> = HashMap::new();
    for call in rig.sandbox.calls_of(route) {
        calls.entry(call.key.clone().unwrap_or_default()).or_default().push(call);
    }
    calls
}

/// Number of calls of `route` that followed one whose effect the worker could not know. A call may be followed by
/// another only if its answer says that nothing was done.
pub(crate) fn repeated_in_doubt(rig: &Rig, route: Route) -> usize {
    let harmless = |call: &CallRecord| matches!(call.status, Some(401 | 429 | 500 | 503));
    calls_by_key(rig, route)
        .values()
        .map(|calls| calls.iter().rev().skip(1).filter(|call| !harmless(call)).count())
        .sum()
}

/// Jobs of `kind` for whose customer more calls arrived at `route` than the completion reports.
pub(crate) fn unaccounted(rig: &Rig, kind: &str, route: Route, key: impl Fn(&str) -> String) -> Vec<String> {
    let calls = calls_by_key(rig, route);
    rig.completions
        .iter()
        .filter(|event| event["type"] == kind)
        .filter_map(|event| {
            let id = event["id"].as_str().unwrap();
            let arrived = calls.get(&key(id)).map_or(0, Vec::len);
            let owned = usize::try_from(event["attempts"].as_u64().unwrap()).unwrap();
            (arrived > owned).then(|| format!("{id}: {arrived} calls, {owned} attempts"))
        })
        .collect()
}

/// Second POSTs for a customer without a check between them, after a first one whose effect was unknown.
pub(crate) fn posted_blindly(rig: &Rig, email: impl Fn(&str) -> String) -> Vec<String> {
    let checks = calls_by_key(rig, Route::Exists);
    let mut blind = Vec::new();
    for (reference, posts) in calls_by_key(rig, Route::Create) {
        let looked = checks.get(&email(&reference)).map_or(&[][..], Vec::as_slice);
        for pair in posts.windows(2) {
            let unknown = !matches!(pair[0].status, Some(401 | 429 | 500 | 503));
            let between = looked.iter().any(|check| check.seq > pair[0].seq && check.seq < pair[1].seq);
            if unknown && !between {
                blind.push(format!("{reference}: {pair:#?}"));
            }
        }
    }
    blind
}

/// Asserts what holds of every call, whatever went wrong.
pub(crate) fn assert_no_blind_repetition(rig: &Rig) {
    for route in [Route::Start, Route::Verify] {
        assert_eq!(repeated_in_doubt(rig, route), 0, "{} repeated in doubt", route.as_str());
    }
    assert_eq!(unaccounted(rig, "StartOtp", Route::Start, super::jobs::email), Vec::<String>::new());
    assert_eq!(posted_blindly(rig, super::jobs::email), Vec::<String>::new());
}
