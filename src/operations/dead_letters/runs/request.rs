//! What a run is asked to do, in the form in which it is kept.

use super::{error::RunError, name::digest};
use crate::{
    config::Rate,
    dead_letters::{Changes, Filter},
    operations::{Error, MerchantScope, dead_letters::replay::ReplayRequest},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest request that is kept, in bytes of JSON.
const MAX_BYTES: usize = 256 * 1024;

/// What a run does with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// They go back into the queue.
    Replay,
    /// They are removed.
    Discard,
}

impl RunKind {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }

    /// The action in the audit stream.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Replay => "dead replay",
            Self::Discard => "dead discard",
        }
    }

    /// The action in the audit stream when it has ended.
    pub(super) const fn ended(self) -> &'static str {
        match self {
            Self::Replay => "dead replay ended",
            Self::Discard => "dead discard ended",
        }
    }
}

/// What a run is asked to do. No `Debug`: an edit may be about a person.
#[derive(Clone)]
pub(super) enum RunRequest {
    Replay(ReplayRequest),
    Discard(Filter),
}

/// The JSON of a request. A filter and an edit may be about a person, so it is removed when the run has ended.
#[derive(Serialize, Deserialize)]
struct Kept {
    kind: RunKind,
    filter: Filter,
    merchants: MerchantScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<KeptReplay>,
}

#[derive(Serialize, Deserialize)]
struct KeptReplay {
    changes: Changes,
    send_codes: bool,
    accept_doubt: bool,
    interval_us: u64,
    limit: Option<u64>,
}

impl RunRequest {
    pub(super) const fn kind(&self) -> RunKind {
        match self {
            Self::Replay(_) => RunKind::Replay,
            Self::Discard(_) => RunKind::Discard,
        }
    }

    pub(super) const fn filter(&self) -> &Filter {
        match self {
            Self::Replay(request) => &request.filter,
            Self::Discard(filter) => filter,
        }
    }

    /// Its JSON, personal data included.
    pub(super) fn to_json(&self) -> Result<String, RunError> {
        let filter = self.filter().clone();
        let replay = match self {
            Self::Replay(request) => Some(KeptReplay {
                changes: request.changes.clone(),
                send_codes: request.send_codes,
                accept_doubt: request.accept_doubt,
                interval_us: request.rate.interval_us,
                limit: request.limit,
            }),
            Self::Discard(_) => None,
        };
        let kept = Kept { kind: self.kind(), merchants: filter.merchants.clone(), filter, replay };
        let json = serde_json::to_string(&kept).map_err(|_| RunError::TooLarge)?;
        if json.len() > MAX_BYTES { Err(RunError::TooLarge) } else { Ok(json) }
    }

    /// Reads what [`Self::to_json`] wrote.
    pub(super) fn from_json(json: &str) -> Option<Self> {
        let Kept { kind, mut filter, merchants, replay } = serde_json::from_str(json).ok()?;
        filter.merchants = merchants;
        match (kind, replay) {
            (RunKind::Discard, _) => Some(Self::Discard(filter)),
            (RunKind::Replay, Some(kept)) => Some(Self::Replay(ReplayRequest {
                filter,
                changes: kept.changes,
                send_codes: kept.send_codes,
                accept_doubt: kept.accept_doubt,
                rate: Rate { interval_us: kept.interval_us.max(1) },
                limit: kept.limit,
            })),
            (RunKind::Replay, None) => None,
        }
    }

    /// A digest that differs where anything of the request differs.
    pub(super) fn digest(&self) -> Result<String, RunError> {
        Ok(digest(&self.to_json()?))
    }

    /// For the audit stream: without the values of an edit, and without personal data.
    pub(super) fn recorded(&self, as_of_ms: u64) -> Value {
        match self {
            Self::Replay(request) => request.recorded(as_of_ms),
            Self::Discard(filter) => json!({"filter": filter.recorded(as_of_ms)}),
        }
    }
}

/// Puts the merchants of the user into a filter.
pub(super) fn forced(filter: Filter, merchants: &MerchantScope) -> Filter {
    Filter { merchants: merchants.clone(), ..filter }
}

/// The error of a request that fits nothing.
pub(super) const fn nothing_fits() -> RunError {
    RunError::Operation(Error::NoDeadLetter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{config::parse_rate, contract::MerchantId};

    #[test]
    fn a_request_is_kept_whole_and_any_difference_shows_in_its_digest() {
        let merchant = MerchantId::from_checked("11111111-89ab-cdef-0123-456789abcdef");
        let request = ReplayRequest {
            filter: Filter {
                caller: Some("c".to_owned()),
                merchants: MerchantScope::only([&merchant], None),
                ..Filter::default()
            },
            changes: Changes { set: vec!["/args/email=a@b.example".parse().unwrap()], ..Changes::default() },
            send_codes: true,
            accept_doubt: false,
            rate: parse_rate("3/m").unwrap(),
            limit: Some(7),
        };
        let kept = RunRequest::from_json(&RunRequest::Replay(request.clone()).to_json().unwrap()).unwrap();
        let RunRequest::Replay(read) = &kept else { panic!("a replay") };
        assert_eq!((&read.filter, read.rate, read.limit), (&request.filter, request.rate, Some(7)));
        assert_eq!((read.send_codes, read.accept_doubt, read.changes.pointers()), (true, false, vec!["/args/email"]));
        let digest = RunRequest::Replay(request.clone()).digest().unwrap();
        assert_eq!(kept.digest().unwrap(), digest);
        let wider = ReplayRequest { filter: forced(request.filter.clone(), &MerchantScope::all()), ..request.clone() };
        let other_value = Changes { set: vec!["/args/email=b@b.example".parse().unwrap()], ..request.changes.clone() };
        let edited = ReplayRequest { changes: other_value, ..request };
        for other in [RunRequest::Replay(wider), RunRequest::Replay(edited), RunRequest::Discard(Filter::default())] {
            assert_ne!(other.digest().unwrap(), digest);
        }
        assert!(RunRequest::from_json("{}").is_none() && RunRequest::from_json(r#"{"kind":"replay"}"#).is_none());
    }
}
