//! Jobs as a merchant writes them, and helpers for their results.

use super::Rig;
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use xco_worker::{
    config::{Limit, parse_rate},
    sandbox::{NewSandboxUser, Route},
};

/// An account that XCO has before the test starts.
pub(crate) fn account(email: &str) -> NewSandboxUser {
    NewSandboxUser { email: email.to_owned(), first_name: Some("Ada".to_owned()), token_count: 2, ..Default::default() }
}

/// `CreateUser` of a customer with the reference `ref-<id>`.
pub(crate) fn create(id: &str, email: &str) -> Value {
    json!({"id": id, "type": "CreateUser", "args": {
        "customer_reference": format!("ref-{id}"), "user": {"email": email}}})
}

pub(crate) fn start(id: &str, caller: &str, email: &str) -> Value {
    json!({"id": id, "type": "StartOtp", "caller_id": caller, "args": {"email": email}})
}

pub(crate) fn verify(id: &str, caller: &str, email: &str, code: &str) -> Value {
    json!({"id": id, "type": "VerifyOtp", "caller_id": caller, "args": {"email": email, "verification_code": code}})
}

/// `FinalizeConsent` with a challenge.
pub(crate) fn consent(id: &str, challenge: &str) -> Value {
    json!({"id": id, "type": "FinalizeConsent", "args": {
        "customer_reference": format!("ref-{id}"), "consent_challenge_id": challenge}})
}

/// `FinalizeConsent` with a code.
pub(crate) fn finalize(id: &str, caller: &str, email: &str, code: &str) -> Value {
    json!({"id": id, "type": "FinalizeConsent", "caller_id": caller, "args": {
        "customer_reference": format!("ref-{id}"), "email": email, "verification_code": code}})
}

/// The job with one more field.
pub(crate) fn with(mut job: Value, field: &str, value: impl Into<Value>) -> Value {
    job[field] = value.into();
    job
}

/// A limit in the configuration's notation.
pub(crate) fn limit(rate: &str, burst: u32) -> Limit {
    Limit { rate: parse_rate(rate).unwrap(), burst }
}

/// An object's keys, sorted.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|members| members.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// A completion's timestamp.
pub(crate) fn moment(event: &Value, field: &str) -> jiff::Timestamp {
    event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event:#}")).parse().unwrap()
}

/// One of a completion's timings.
pub(crate) fn timing(event: &Value, name: &str) -> u64 {
    event["timings_ms"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {event:#}"))
}

/// The time after `delay`, in RFC 3339.
pub(crate) fn in_time(delay: Duration) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::try_from(delay).unwrap()).to_string()
}

/// A code that is not `right`.
pub(crate) fn other_than(right: &str) -> &'static str {
    if right == "735128" { "735129" } else { "735128" }
}

impl Rig {
    /// What the index of partition 0 has for an id, the earliest job first.
    pub(crate) async fn reserved(&mut self, id: &str) -> Vec<String> {
        let index = self.key("index");
        let slices: Vec<String> = self.connection.zrange(&index, 0, -1).await.unwrap();
        let mut values = Vec::new();
        for slice in slices {
            let value: Option<String> = self.connection.hget(format!("{index}:{slice}"), id).await.unwrap();
            values.extend(value);
        }
        values
    }

    /// Removes the index of partition 0, as if the dedupe window had passed.
    pub(crate) async fn forget_index(&mut self) {
        let keys: Vec<String> = self.connection.keys(self.key("index*")).await.unwrap();
        let _: u64 = self.connection.del(keys).await.unwrap();
    }

    /// The dead letters of partition 0, in order.
    pub(crate) async fn letters(&mut self) -> Vec<BTreeMap<String, String>> {
        let key = self.key("dead");
        let reply: redis::streams::StreamRangeReply = self.connection.xrange_all(key).await.unwrap();
        let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).unwrap();
        reply
            .ids
            .iter()
            .map(|entry| entry.map.iter().map(|(name, value)| (name.clone(), text(value))).collect())
            .collect()
    }

    /// The dead letter of one job.
    pub(crate) async fn letter(&mut self, id: &str) -> Option<BTreeMap<String, String>> {
        self.letters().await.into_iter().find(|letter| letter["id"] == id)
    }

    /// The routes called so far, without the token endpoint.
    pub(crate) fn routes(&self) -> Vec<Route> {
        self.sandbox.calls().iter().map(|call| call.route).filter(|route| *route != Route::Token).collect()
    }

    /// Sends a code to an account and reads it, as its owner would.
    pub(crate) async fn code_for(&mut self, caller: &str, email: &str) -> String {
        let id = format!("start-{:08x}", rand::random::<u32>());
        let sent = self.complete(start(&id, caller, email)).await;
        assert_eq!(sent["outcome"], "otp_sent", "{sent:#}");
        self.sandbox.otp(email).unwrap()
    }

    /// Microseconds between the calls of one caller, in order of arrival.
    pub(crate) fn gaps_us(&self, caller: &str) -> Vec<u64> {
        let at: Vec<u64> = self
            .sandbox
            .calls()
            .iter()
            .filter(|call| call.caller_id.as_deref() == Some(caller))
            .map(|call| call.at_us)
            .collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}
