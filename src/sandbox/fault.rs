//! Faults that the simulator can be ordered to produce.

use super::Route;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use serde_json::Value;

/// Kind of a fault.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// An answer with a given status.
    Status {
        /// HTTP status of the answer.
        status: u16,
        /// Value of the `Retry-After` header.
        retry_after: Option<String>,
        /// Body of the answer; `None` for a problem document of that status.
        body: Option<Value>,
    },
    /// A sequence of statuses, one for each call.
    Statuses(Vec<u16>),
    /// The normal answer, delayed by this number of milliseconds.
    Delay(u64),
    /// No answer until the connection closes.
    Hang,
    /// The connection is reset without an answer.
    Reset,
    /// The call takes effect, and the answer breaks off in the middle.
    Truncate,
    /// The call takes effect, and the answer has the right status and an HTML body.
    Garbage,
}

impl FaultKind {
    const fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } | Self::Statuses(_) => "status",
            Self::Delay(_) => "delay",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
            Self::Garbage => "garbage",
        }
    }
}

/// A fault, with the calls that it affects. By default that is the next call of any route except the token endpoint.
///
/// A call is affected by the first ordered fault that matches it, and by no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Affects only calls of this route; `None` means the five calls of the API.
    pub route: Option<Route>,
    /// Affects only calls of this caller.
    pub caller_id: Option<String>,
    /// Number of calls affected; `None` means all.
    pub times: Option<u64>,
    /// Probability with which each call is affected, and the seed of the random choice.
    pub chance: Option<(f64, u64)>,
    /// Whether the call takes effect first (for a status, a hang or a reset).
    pub after_effect: bool,
}

impl Fault {
    /// A fault of this kind for one call.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, route: None, caller_id: None, times: Some(1), chance: None, after_effect: false }
    }

    /// A fault that answers with `status`.
    pub fn status(status: u16) -> Self {
        Self::new(FaultKind::Status { status, retry_after: None, body: None })
    }

    /// A fault that gives no answer.
    pub fn hang() -> Self {
        Self::new(FaultKind::Hang)
    }

    /// A fault that resets the connection.
    pub fn reset() -> Self {
        Self::new(FaultKind::Reset)
    }

    /// Restricts the fault to one route.
    #[must_use]
    pub fn on(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Affects the next `n` calls.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.times = Some(n);
        self
    }

    /// Affects all calls from now on.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Affects each call from now on with probability `p`, chosen by `seed`.
    #[must_use]
    pub fn with_probability(mut self, p: f64, seed: u64) -> Self {
        (self.chance, self.times) = (Some((p, seed)), None);
        self
    }

    /// Adds a `Retry-After` header to a status fault.
    #[must_use]
    pub fn retry_after(mut self, value: impl Into<String>) -> Self {
        if let FaultKind::Status { retry_after, .. } = &mut self.kind {
            *retry_after = Some(value.into());
        }
        self
    }

    /// Adds a body to a status fault.
    #[must_use]
    pub fn body(mut self, value: Value) -> Self {
        if let FaultKind::Status { body, .. } = &mut self.kind {
            *body = Some(value);
        }
        self
    }

    /// Lets the call take effect before the fault.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }
}

/// A [`Fault`] as the body of `POST /_sandbox/faults`: exactly one of `status`, `statuses`, `delay_ms`, `hang`,
/// `reset`, `truncate` and `garbage`, and the calls that it affects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "it is the shape of the JSON")]
pub struct FaultOrder {
    /// `exists`, `create`, `start`, `verify`, `consent` or `token`; without it, the five calls of the API.
    pub route: Option<Route>,
    /// Affects only calls of this caller.
    pub caller_id: Option<String>,
    /// Number of calls affected; default 1, or all if there is a `probability`.
    pub times: Option<u64>,
    /// Probability with which each call is affected, from 0 to 1.
    pub probability: Option<f64>,
    /// Seed of the random choice; default 0.
    pub seed: Option<u64>,
    /// Whether the call takes effect first.
    #[serde(default)]
    pub after_effect: bool,
    /// Answers with this status.
    pub status: Option<u16>,
    /// Value of the `Retry-After` header (with `status`).
    pub retry_after: Option<String>,
    /// Body of the answer (with `status`).
    pub body: Option<Value>,
    /// A sequence of statuses, one for each call.
    pub statuses: Option<Vec<u16>>,
    /// Delays the normal answer by this number of milliseconds.
    pub delay_ms: Option<u64>,
    /// Gives no answer.
    #[serde(default)]
    pub hang: bool,
    /// Resets the connection.
    #[serde(default)]
    pub reset: bool,
    /// Sends an answer that breaks off.
    #[serde(default)]
    pub truncate: bool,
    /// Sends an answer that is not JSON.
    #[serde(default)]
    pub garbage: bool,
}

impl TryFrom<FaultOrder> for Fault {
    type Error = &'static str;

    fn try_from(order: FaultOrder) -> Result<Self, Self::Error> {
        let statuses = order.status.iter().chain(order.statuses.iter().flatten());
        if !statuses.clone().all(|status| (200..=999).contains(status)) {
            return Err("a status is 200 to 999");
        }
        if order.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("a probability is 0 to 1");
        }
        let flag = |set: bool, kind: FaultKind| set.then_some(kind);
        let sequence_len = order.statuses.as_ref().map(|statuses| statuses.len() as u64);
        let mut kinds = [
            order.status.map(|status| FaultKind::Status { status, retry_after: order.retry_after, body: order.body }),
            order.statuses.map(FaultKind::Statuses),
            order.delay_ms.map(FaultKind::Delay),
            flag(order.hang, FaultKind::Hang),
            flag(order.reset, FaultKind::Reset),
            flag(order.truncate, FaultKind::Truncate),
            flag(order.garbage, FaultKind::Garbage),
        ]
        .into_iter()
        .flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err("exactly one of status, statuses, delay_ms, hang, reset, truncate, garbage");
        };
        let chance = order.probability.map(|p| (p, order.seed.unwrap_or(0)));
        let times = order.times.or(sequence_len).or(if chance.is_some() { None } else { Some(1) });
        Ok(Self {
            kind,
            route: order.route,
            caller_id: order.caller_id,
            times,
            chance,
            after_effect: order.after_effect,
        })
    }
}

/// The fault that affects one call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strike {
    /// Never [`FaultKind::Statuses`].
    pub(super) kind: FaultKind,
    /// Whether the call takes effect first.
    pub(super) after_effect: bool,
    /// Name of the fault in the record of calls.
    pub(super) name: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Armed>);

#[derive(Debug)]
struct Armed {
    fault: Fault,
    left: Option<u64>,
    struck: usize,
    chance: Option<(f64, StdRng)>,
}

impl Faults {
    pub(super) fn order(&mut self, fault: Fault) {
        let chance = fault.chance.map(|(p, seed)| (p.clamp(0.0, 1.0), StdRng::seed_from_u64(seed)));
        let left = match &fault.kind {
            // A sequence ends with its last status.
            FaultKind::Statuses(statuses) => Some(statuses.len() as u64),
            _ => fault.times,
        };
        self.0.push(Armed { left, struck: 0, chance, fault });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that affects this call, if any.
    pub(super) fn take(&mut self, route: Route, caller: Option<&str>) -> Option<Strike> {
        if self.0.is_empty() {
            return None;
        }
        let index = self.0.iter_mut().position(|armed| armed.strikes(route, caller))?;
        let armed = self.0.get_mut(index)?;
        let kind = match &armed.fault.kind {
            FaultKind::Statuses(statuses) => FaultKind::Status {
                status: statuses.get(armed.struck).copied().unwrap_or(500),
                retry_after: None,
                body: None,
            },
            kind => kind.clone(),
        };
        let strike = Strike { name: kind.name(), kind, after_effect: armed.fault.after_effect };
        armed.struck += 1;
        armed.left = armed.left.map(|left| left.saturating_sub(1));
        if armed.left == Some(0) {
            self.0.remove(index);
        }
        Some(strike)
    }
}

impl Armed {
    fn strikes(&mut self, route: Route, caller: Option<&str>) -> bool {
        let fault = &self.fault;
        fault.route.map_or(route != Route::Token, |only| only == route)
            && fault.caller_id.as_deref().is_none_or(|only| caller == Some(only))
            && self.left != Some(0)
            && self.chance.as_mut().is_none_or(|(p, rng)| rng.random_bool(*p))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn statuses(faults: &mut Faults, route: Route, n: usize) -> Vec<u16> {
        (0..n)
            .map(|_| match faults.take(route, None).map(|strike| strike.kind) {
                Some(FaultKind::Status { status, .. }) => status,
                _ => 0,
            })
            .collect()
    }

    #[test]
    fn times_routes_and_sequences() {
        let mut faults = Faults::default();
        faults.order(Fault::status(503).on(Route::Start).times(2));
        faults.order(Fault::new(FaultKind::Statuses(vec![500, 429])));
        assert_eq!(statuses(&mut faults, Route::Token, 1), [0]);
        assert_eq!(statuses(&mut faults, Route::Start, 3), [503, 503, 500]);
        assert_eq!(statuses(&mut faults, Route::Exists, 2), [429, 0]);
    }

    #[test]
    fn chance_is_the_seeds() {
        let run = || {
            let mut faults = Faults::default();
            faults.order(Fault::status(500).with_probability(0.3, 7));
            statuses(&mut faults, Route::Exists, 1000)
        };
        let first = run();
        assert_eq!(first, run());
        let struck = first.iter().filter(|status| **status == 500).count();
        assert!((240..360).contains(&struck), "{struck}");
    }

    #[test]
    fn orders_are_checked() {
        let order = |json: &str| {
            serde_json::from_str::<FaultOrder>(json)
                .map_err(|error| error.to_string())
                .and_then(|order| Fault::try_from(order).map_err(str::to_owned))
        };
        assert_eq!(
            order(r#"{"status":503,"route":"start","times":2}"#),
            Ok(Fault::status(503).on(Route::Start).times(2))
        );
        assert_eq!(order(r#"{"reset":true,"after_effect":true}"#), Ok(Fault::reset().after_effect()));
        for wrong in [
            "{}",
            r#"{"hang":true,"reset":true}"#,
            r#"{"stats":503}"#,
            r#"{"status":42}"#,
            r#"{"hang":true,"probability":2}"#,
        ] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
    }
}
