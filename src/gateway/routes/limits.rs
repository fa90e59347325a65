//! `GET`, `PUT /v1/limits`

use super::{
    pauses::reason,
    query::{Body, faulty},
};
use crate::{
    gateway::{
        access::{Access, Operate, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        InForce,
        limits::{
            self, ConcurrencyReport, LimitChange, LimitError, LimitName, LimitReport, LimitSetting, LimitsChanged,
            LimitsReport, ResetRequest, SetRequest,
        },
    },
};
use axum::{Json, extract::State};
use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt::Display, sync::Arc};

/// The name by which a request means the number of worker slots.
const CONCURRENCY: &str = LimitSetting::Concurrency.as_str();

/// A member of a change: left out, `null`, or a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Wanted<T> {
    /// The setting stays as it is.
    #[default]
    Same,
    /// What the configuration says.
    Configured,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Wanted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Configured, Self::Value))
    }
}

/// A change of one limit: `rate` and `burst`, or `value` for the concurrency.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitBody {
    name: String,
    #[serde(default)]
    rate: Wanted<String>,
    #[serde(default)]
    burst: Wanted<u32>,
    #[serde(default)]
    value: Wanted<u32>,
    reason: Option<String>,
}

/// What a request changes. Setting and resetting are two steps, so one request does one of them.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Set(Vec<LimitChange>),
    Reset(Vec<LimitSetting>),
}

/// The settings of a request, sorted by what becomes of them.
#[derive(Default)]
struct Changes {
    set: Vec<LimitChange>,
    reset: Vec<LimitSetting>,
}

impl Changes {
    fn add<T: Display>(&mut self, setting: LimitSetting, wanted: &Wanted<T>) -> Result<(), LimitError> {
        match wanted {
            Wanted::Same => {}
            Wanted::Configured => self.reset.push(setting),
            Wanted::Value(value) => self.set.push(LimitChange::parse(setting.as_str(), &value.to_string())?),
        }
        Ok(())
    }
}

impl LimitBody {
    fn change(&self) -> Result<Change, Problem> {
        let mut changes = Changes::default();
        if self.name == CONCURRENCY {
            if self.rate != Wanted::Same || self.burst != Wanted::Same {
                return Err(faulty("name", "concurrency has a value, and no rate or burst"));
            }
            changes.add(LimitSetting::Concurrency, &self.value)?;
        } else {
            let name = LimitName::parse(&self.name)
                .ok_or_else(|| faulty("name", "must be caller, client, total or concurrency"))?;
            if self.value != Wanted::Same {
                return Err(faulty("value", "is for concurrency; a limit has rate and burst"));
            }
            changes.add(name.rate(), &self.rate)?;
            // A limit without its rate has no use for a burst: both go back together.
            let burst = if self.rate == Wanted::Configured && self.burst == Wanted::Same {
                &Wanted::Configured
            } else {
                &self.burst
            };
            changes.add(name.burst(), burst)?;
        }
        match (changes.set.is_empty(), changes.reset.is_empty()) {
            (false, true) => Ok(Change::Set(changes.set)),
            (true, false) => Ok(Change::Reset(changes.reset)),
            (true, true) => Err(LimitError::NothingNamed.into()),
            (false, false) => Err(faulty("rate, burst", "a value and null cannot be in one request")),
        }
    }
}

/// The limit after a change.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Limit(LimitReport),
    Concurrency {
        name: &'static str,
        #[serde(flatten)]
        report: ConcurrencyReport,
    },
}

#[derive(Serialize)]
pub(crate) struct LimitAnswer {
    #[serde(flatten)]
    entry: Entry,
    brought_forward: u64,
    #[serde(flatten)]
    in_force: InForce,
}

impl LimitAnswer {
    /// `None` if `name` is none of a limit.
    fn of(name: &str, changed: LimitsChanged) -> Option<Self> {
        let LimitsChanged { report, brought_forward, .. } = changed;
        let in_force = report.in_force;
        let entry = if name == CONCURRENCY {
            Entry::Concurrency { name: CONCURRENCY, report: report.concurrency }
        } else {
            Entry::Limit(report.limits.into_iter().find(|limit| limit.name == name)?)
        };
        Some(Self { entry, brought_forward, in_force })
    }
}

impl From<LimitError> for Problem {
    fn from(error: LimitError) -> Self {
        let remedy = error.remedy();
        match error {
            LimitError::Queue(error) => error.into(),
            wrong => {
                let detail = remedy.map_or_else(|| wrong.to_string(), |remedy| format!("{wrong}: {remedy}"));
                Self::new(ProblemKind::BadRequest).detail(detail)
            }
        }
    }
}

/// The limits and the concurrency in force, and what the configuration says where an operator changed them.
#[utoipa::path(get, path = "/v1/limits", tag = "limits", security(("token" = [])),
    responses((status = 200, description = "The limits", body = Object)))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
) -> Result<Json<LimitsReport>, Problem> {
    principal.require_all_merchants()?;
    Ok(Json(limits::list(&mut state.shared.backend(), &state.config).await?))
}

/// Changes one limit, or the concurrency, while workers run. `null` returns to the configuration. Answers when all workers know it,
/// within 3 s.
#[utoipa::path(put, path = "/v1/limits", tag = "limits", security(("token" = [])), request_body = Object,
    responses((status = 200, description = "In force", body = Object), (status = 400, description = "The request is not valid")))]
pub(crate) async fn change(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Body(body): Body<LimitBody>,
) -> Result<Json<LimitAnswer>, Problem> {
    principal.require_all_merchants()?;
    let change = body.change()?;
    let reason = reason(body.reason.as_deref())?;
    // A raised limit looks at all waiting jobs.
    let (mut backend, actor) = (state.shared.backend_for_scans(), principal.actor());
    let changed = match change {
        Change::Set(changes) => {
            limits::set(&mut backend, &state.config, &actor, &SetRequest { changes, reason }).await?
        }
        Change::Reset(settings) => {
            limits::reset(&mut backend, &state.config, &actor, &ResetRequest { settings, reason }).await?
        }
    };
    LimitAnswer::of(&body.name, changed).map(Json).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(json: &str) -> Option<Change> {
        serde_json::from_str::<LimitBody>(json).ok()?.change().ok()
    }

    fn set(list: &[(&str, &str)]) -> Change {
        Change::Set(list.iter().map(|(name, value)| LimitChange::parse(name, value).unwrap()).collect())
    }

    #[test]
    fn a_value_sets_and_null_resets() {
        use LimitSetting::{CallerBurst, Concurrency, TotalBurst, TotalRate};
        for (json, wanted) in [
            (
                r#"{"name":"total","rate":"100/s","burst":9}"#,
                Some(set(&[("total.rate", "100/s"), ("total.burst", "9")])),
            ),
            (r#"{"name":"total","rate":"off"}"#, Some(set(&[("total.rate", "off")]))),
            (r#"{"name":"concurrency","value":64}"#, Some(set(&[("concurrency", "64")]))),
            (r#"{"name":"total","rate":null}"#, Some(Change::Reset(vec![TotalRate, TotalBurst]))),
            (r#"{"name":"caller","burst":null}"#, Some(Change::Reset(vec![CallerBurst]))),
            (r#"{"name":"concurrency","value":null}"#, Some(Change::Reset(vec![Concurrency]))),
        ] {
            assert_eq!(change(json), wanted, "{json}");
        }
        for wrong in [
            r#"{"name":"total"}"#,
            r#"{"name":"concurrency"}"#,
            r#"{"name":"concurrency","rate":"1/s"}"#,
            r#"{"name":"concurrency","value":0}"#,
            r#"{"name":"total","value":4}"#,
            r#"{"name":"total","rate":null,"burst":4}"#,
            r#"{"name":"total","rate":"fast"}"#,
            r#"{"name":"total","burst":0}"#,
            r#"{"name":"total.rate","rate":"1/s"}"#,
            r#"{"name":"total","rates":"1/s"}"#,
        ] {
            assert_eq!(change(wrong), None, "{wrong}");
        }
    }
}
