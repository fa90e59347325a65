//! Selects jobs in a list.

use super::person::SealedPerson;
use crate::{
    contract::{JobType, Lane, Origin, Status},
    operations::{MerchantScope, dead_letters::Moment},
};
use memchr::{memchr, memmem::Finder};
use serde_json::Value;
use std::fmt;

/// How far a job is, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In a lane; no worker has read it.
    Waiting,
    /// A worker has read it, and has neither ended nor delayed it.
    Running,
    /// It comes back to its lane later.
    Delayed,
    /// It has a completion.
    Ended,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Running, Self::Delayed, Self::Ended];

    /// The stage with this name. `None` for any other text. `in_flight`, the word of `status` and `why`, is a name of
    /// [`Self::Running`] too.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "in_flight" {
            return Some(Self::Running);
        }
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }

    /// The name in JSON and in flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Delayed => "delayed",
            Self::Ended => "ended",
        }
    }
}

impl serde::Serialize for Stage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Selects the jobs that match every field that is set. `Debug` does not reveal the customer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Any of these stages. Empty means all.
    pub stage: Vec<Stage>,
    /// Ended jobs with any of these statuses. With a status, no other job matches.
    pub status: Vec<Status>,
    /// Any of these types. Empty means all.
    pub job_type: Vec<JobType>,
    /// Jobs in this lane, or that come back to it. No ended job matches, because a completion does not name the lane.
    pub lane: Option<Lane>,
    /// The job belongs to this batch.
    pub batch: Option<String>,
    /// The job has this caller: its `caller_id`, or else its customer reference.
    pub caller: Option<String>,
    /// The job is about the customer with this reference.
    pub customer: Option<String>,
    /// The job is about the customer with this email address, in upper or lower case.
    pub email: Option<String>,
    /// The job is about the customer with this phone number, as the job has it.
    pub phone_number: Option<String>,
    /// The job is about each of these people, by email address or phone number.
    pub people: Vec<SealedPerson>,
    /// The job has this id.
    pub id: Option<String>,
    /// The job has been where it is since this time or later: in its lane, delayed, or ended.
    pub since: Option<Moment>,
    /// The merchants whose jobs may be seen.
    pub merchants: MerchantScope,
}

impl fmt::Debug for JobFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stage,
            status,
            job_type,
            lane,
            batch,
            caller,
            customer,
            email,
            phone_number,
            people,
            id,
            since,
            merchants,
        } = self;
        let hidden = |text: &Option<String>| text.as_ref().map(|_| "…");
        f.debug_struct("JobFilter")
            .field("stage", stage)
            .field("status", status)
            .field("job_type", job_type)
            .field("lane", lane)
            .field("batch", batch)
            .field("caller", &hidden(caller))
            .field("customer", &hidden(customer))
            .field("email", &hidden(email))
            .field("phone_number", &hidden(phone_number))
            .field("people", people)
            .field("id", id)
            .field("since", since)
            .field("merchants", merchants)
            .finish()
    }
}

impl JobFilter {
    /// Whether a job of this stage can match.
    pub(super) fn wants(&self, stage: Stage) -> bool {
        let is_excluded = match stage {
            Stage::Ended => self.lane.is_some(),
            Stage::Waiting | Stage::Running | Stage::Delayed => !self.status.is_empty(),
        };
        !is_excluded && is_any(&self.stage, &stage)
    }

    /// Whether a job in this lane can match.
    pub(super) fn wants_lane(&self, lane: Lane) -> bool {
        self.lane.is_none_or(|wanted| wanted == lane)
    }

    /// Whether a job of this type can match; `None`: it has no known type.
    pub(super) fn wants_type(&self, job_type: Option<JobType>) -> bool {
        self.job_type.is_empty() || job_type.is_some_and(|known| self.job_type.contains(&known))
    }

    /// Whether an ended job with this status can match.
    pub(super) fn wants_status(&self, status: &str) -> bool {
        self.status.is_empty() || self.status.iter().any(|wanted| wanted.as_str() == status)
    }

    /// Whether the customer's contact is part of the filter.
    pub(super) const fn has_contact(&self) -> bool {
        self.email.is_some() || self.phone_number.is_some() || !self.people.is_empty()
    }

    /// Whether a job matches, by its id and the JSON of the job or of its completion. Stage, status, lane and time are not looked at.
    pub(super) fn fits(&self, id: &str, json: &Value) -> bool {
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
        let customer = json["customer_reference"].as_str().or_else(|| json["args"]["customer_reference"].as_str());
        self.merchants.covers(json)
            && is(&self.id, Some(id))
            && is(&self.batch, json["batch"].as_str())
            && is(&self.customer, customer)
            && is(&self.caller, json["caller_id"].as_str().or(customer))
            && self.wants_type(job_type_of(json))
            && has(json, "email", self.email.as_deref(), str::eq_ignore_ascii_case)
            && has(json, "phone_number", self.phone_number.as_deref(), |a, b| a == b)
            && self.people.iter().all(|person| person.is_in(json))
    }
}

fn is_any<T: PartialEq>(wanted: &[T], value: &T) -> bool {
    wanted.is_empty() || wanted.contains(value)
}

/// The type of a job, of the JSON of the job or of its completion.
pub(super) fn job_type_of(json: &Value) -> Option<JobType> {
    JobType::from_name(json["type"].as_str()?)
}

/// Whether a contact is in the arguments, in the user to be created, or in the user that XCO returned.
fn has(json: &Value, name: &str, wanted: Option<&str>, same: impl Fn(&str, &str) -> bool) -> bool {
    let Some(wanted) = wanted else { return true };
    let args = &json["args"];
    [&args[name], &args["user"][name], &json["result"]["user"][name]]
        .into_iter()
        .filter_map(Value::as_str)
        .any(|value| same(value, wanted))
}

/// Excludes most jobs that do not match by their bytes, without parsing them.
pub(in crate::operations) struct Sieve {
    exact: Vec<Finder<'static>>,
    /// In lower case.
    folded: Vec<Finder<'static>>,
}

impl Sieve {
    pub(in crate::operations) fn new(filter: &JobFilter) -> Self {
        // A job without an id has its origin as id, which its JSON does not contain.
        let id = filter.id.as_deref().filter(|id| id.parse::<Origin>().is_err());
        let texts = [&filter.batch, &filter.caller, &filter.customer, &filter.phone_number].map(Option::as_deref);
        let job_type = match filter.job_type.as_slice() {
            [job_type] => Some(job_type.as_str()),
            _ => None,
        };
        let texts = texts.into_iter().chain([id, job_type]).flatten();
        let email = filter.email.iter().map(|email| email.to_ascii_lowercase());
        Self {
            exact: texts.map(|text| Finder::new(text).into_owned()).collect(),
            folded: email.map(|email| Finder::new(&email).into_owned()).collect(),
        }
    }

    /// Whether the job with this JSON may match. JSON with escapes always may.
    pub(in crate::operations) fn lets_through(&self, json: &[u8]) -> bool {
        memchr(b'\\', json).is_some()
            || self.exact.iter().all(|finder| finder.find(json).is_some())
                && (self.folded.is_empty() || {
                    let json = json.to_ascii_lowercase();
                    self.folded.iter().all(|finder| finder.find(&json).is_some())
                })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_and_its_sieve_agree() {
        let job = json!({
            "id": "a", "type": "CreateUser", "batch": "spring",
            "args": {"customer_reference": "c-1", "user": {"email": "Ada@Example.com", "phone_number": "+33612345678"}},
        });
        let event = json!({"id": "a", "type": "CreateUser", "caller_id": "web", "customer_reference": "c-1",
            "result": {"user": {"email": "ada@example.com"}}});
        let all = JobFilter::default();
        for (filter, fits_job, fits_event) in [
            (all.clone(), true, true),
            (JobFilter { id: Some("a".into()), ..all.clone() }, true, true),
            (JobFilter { id: Some("b".into()), ..all.clone() }, false, false),
            (JobFilter { batch: Some("spring".into()), ..all.clone() }, true, false),
            (JobFilter { caller: Some("c-1".into()), ..all.clone() }, true, false),
            (JobFilter { caller: Some("web".into()), ..all.clone() }, false, true),
            (JobFilter { customer: Some("c-1".into()), ..all.clone() }, true, true),
            (JobFilter { email: Some("ada@example.COM".into()), ..all.clone() }, true, true),
            (JobFilter { email: Some("eve@example.com".into()), ..all.clone() }, false, false),
            (JobFilter { phone_number: Some("+33612345678".into()), ..all.clone() }, true, false),
            (JobFilter { job_type: vec![JobType::CreateUser], ..all.clone() }, true, true),
            (JobFilter { job_type: vec![JobType::CheckUser, JobType::StartOtp], ..all.clone() }, false, false),
        ] {
            let sieve = Sieve::new(&filter);
            for (json, fits) in [(&job, fits_job), (&event, fits_event)] {
                assert_eq!(filter.fits("a", json), fits, "{filter:?} {json}");
                assert!(!fits || sieve.lets_through(json.to_string().as_bytes()), "{filter:?} {json}");
            }
        }
        let sieve = Sieve::new(&JobFilter { batch: Some("autumn".into()), ..all });
        assert!(!sieve.lets_through(job.to_string().as_bytes()));
        assert!(sieve.lets_through(br#"{"batch":"\u0061utumn"}"#), "an escape hides the text");
    }

    #[test]
    fn a_running_job_has_two_names() {
        assert_eq!(Stage::ALL.map(Stage::as_str), ["waiting", "running", "delayed", "ended"]);
        assert!(Stage::ALL.into_iter().all(|stage| Stage::from_name(stage.as_str()) == Some(stage)));
        assert_eq!((Stage::from_name("in_flight"), Stage::from_name("gone")), (Some(Stage::Running), None));
    }

    #[test]
    fn a_filter_says_which_places_need_not_be_read() {
        let of_lane = JobFilter { lane: Some(Lane::Bulk), ..JobFilter::default() };
        assert!(
            !of_lane.wants(Stage::Ended) && of_lane.wants(Stage::Delayed) && !of_lane.wants_lane(Lane::Interactive)
        );
        let failed = JobFilter { status: vec![Status::Failed], ..JobFilter::default() };
        assert!(failed.wants(Stage::Ended) && !failed.wants(Stage::Waiting) && !failed.wants_status("succeeded"));
        let secret = JobFilter {
            email: Some("ada@example.com".into()),
            caller: Some("192.0.2.7".into()),
            ..JobFilter::default()
        };
        let debug = format!("{secret:?}");
        assert!(!debug.contains("ada") && !debug.contains("192"), "{debug}");
    }
}
