//! Jobs of the five types.

use crate::contract::{AddressType, Gender, JobType, Lane, Outcome, format_ms, millis};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{fmt, time::Duration};

/// An email address or a phone number. It is checked when the job is submitted.
#[derive(Clone)]
pub struct ContactField {
    name: &'static str,
    value: String,
}

impl ContactField {
    /// An email address.
    pub fn email(email: impl Into<String>) -> Self {
        Self { name: "email", value: email.into() }
    }

    /// A phone number in E.164 form, such as `+33612345678`.
    pub fn phone(phone_number: impl Into<String>) -> Self {
        Self { name: "phone_number", value: phone_number.into() }
    }

    fn args(self) -> Map<String, Value> {
        Map::from_iter([(self.name.to_owned(), Value::String(self.value))])
    }
}

/// XCO's `user` object. Only `email` is required.
#[derive(Clone, Default, Serialize)]
pub struct UserFields {
    /// Email address.
    pub email: String,
    /// Phone number in E.164 form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<String>,
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// Gender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    /// Date of birth, `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birthdate: Option<String>,
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressFields>,
}

/// An address of a user.
#[derive(Clone, Default, Serialize)]
pub struct AddressFields {
    /// Whether the address is for billing or delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_type: Option<AddressType>,
    /// Street and house number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street_address: Option<String>,
    /// Flat, floor, entrance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_complement: Option<String>,
    /// Town or city.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Country in XCO's spelling, such as `FRANCE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// A job to submit. It goes to the interactive lane unless [`lane`](Self::lane) says otherwise.
///
/// Its fields are checked when it is submitted, all at once.
///
/// ```
/// use std::time::Duration;
/// use xco_worker::{client::{ContactField, JobRequest, UserFields}, contract::{Lane, Outcome}};
///
/// let user = UserFields { email: "ada@example.com".into(), first_name: Some("Ada".into()), ..UserFields::default() };
/// let job = JobRequest::check_user(ContactField::email("ada@example.com"))
///     .id("import-7")
///     .customer_reference("c-7")
///     .lane(Lane::Bulk)
///     .ttl(Duration::from_secs(60))
///     .meta("shop", "paris")
///     .next(Outcome::Absent, JobRequest::create_user("c-7", &user));
/// let json: serde_json::Value = serde_json::from_str(&job.to_json())?;
/// assert_eq!(json["args"]["email"], "ada@example.com");
/// assert_eq!(json["next"]["absent"]["type"], "CreateUser");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct JobRequest {
    lane: Lane,
    id: Option<String>,
    fields: Map<String, Value>,
}

impl JobRequest {
    /// Asks XCO whether it knows a customer.
    pub fn check_user(contact: ContactField) -> Self {
        Self::new(JobType::CheckUser, contact.args())
    }

    /// Creates a user. `customer_reference` is the merchant's own identifier of the customer.
    pub fn create_user(customer_reference: impl Into<String>, user: &UserFields) -> Self {
        Self::new(JobType::CreateUser, Map::new())
            .arg("customer_reference", customer_reference.into())
            .arg("user", json!(user))
    }

    /// Sends a customer a one-time code.
    pub fn start_otp(contact: ContactField) -> Self {
        Self::new(JobType::StartOtp, contact.args())
    }

    /// Verifies the code that the customer typed.
    pub fn verify_otp(contact: ContactField, verification_code: impl Into<String>) -> Self {
        Self::new(JobType::VerifyOtp, contact.args()).arg("verification_code", verification_code.into())
    }

    /// Links an XCO user to the merchant, with the challenge of an earlier `VerifyOtp`.
    pub fn finalize_consent(customer_reference: impl Into<String>, consent_challenge_id: impl Into<String>) -> Self {
        Self::new(JobType::FinalizeConsent, Map::new())
            .arg("customer_reference", customer_reference.into())
            .arg("consent_challenge_id", consent_challenge_id.into())
    }

    /// Verifies a code, and then links the XCO user to the merchant.
    pub fn verify_and_finalize(
        customer_reference: impl Into<String>,
        contact: ContactField,
        verification_code: impl Into<String>,
    ) -> Self {
        Self::new(JobType::FinalizeConsent, contact.args())
            .arg("customer_reference", customer_reference.into())
            .arg("verification_code", verification_code.into())
    }

    fn new(job_type: JobType, args: Map<String, Value>) -> Self {
        let fields = [("type", Value::from(job_type.as_str())), ("args", Value::Object(args))];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { lane: Lane::Interactive, id: None, fields }
    }

    fn arg(self, name: &str, value: impl Into<Value>) -> Self {
        self.member("args", name.to_owned(), value.into())
    }

    fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a member to the object in a field, which is made if it is missing.
    fn member(mut self, field: &str, name: String, value: Value) -> Self {
        match self.fields.entry(field).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(object) => object.insert(name, value),
            // Only this type writes these fields, and it writes objects.
            _ => None,
        };
        self
    }

    /// Lane of the job. A job in `next` is in its parent's lane.
    #[must_use]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Your own id: a second job with the same id within `queue.dedupe_window` is dropped. Without one, the client makes one.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Whose rate limit the job spends: the browser's IP address, or a session id.
    #[must_use]
    pub fn caller_id(self, caller_id: impl Into<String>) -> Self {
        self.field("caller_id", caller_id.into())
    }

    /// Your own identifier of the customer; echoed in the completion.
    #[must_use]
    pub fn customer_reference(self, reference: impl Into<String>) -> Self {
        self.field("customer_reference", reference.into())
    }

    /// The merchant, if it is another than `xco.merchant_id`.
    #[must_use]
    pub fn merchant_id(self, merchant_id: impl Into<String>) -> Self {
        self.field("merchant_id", merchant_id.into())
    }

    /// Time to live, in whole milliseconds. After it the job expires instead of running.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.field("ttl_ms", millis(ttl))
    }

    /// The job is not started before this time, in milliseconds since 1970.
    #[must_use]
    pub fn run_at_ms(self, ms: u64) -> Self {
        self.field("run_at", format_ms(ms))
    }

    /// Maximum number of attempts, instead of the type's.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.field("max_attempts", attempts)
    }

    /// Also pushes the completion to the job's reply list. This client does not need it.
    #[must_use]
    pub fn reply(self) -> Self {
        self.field("reply", true)
    }

    /// Name of a batch.
    #[must_use]
    pub fn batch(self, batch: impl Into<String>) -> Self {
        self.field("batch", batch.into())
    }

    /// Adds an entry to `meta`, which is echoed in the completion.
    #[must_use]
    pub fn meta(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.member("meta", name.into(), Value::String(value.into()))
    }

    /// W3C trace context of your own span.
    #[must_use]
    pub fn trace(self, traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        let traced = self.field("traceparent", traceparent.into());
        match tracestate {
            Some(state) => traced.field("tracestate", state),
            None => traced,
        }
    }

    /// The job that is enqueued if this one ends with `outcome`.
    #[must_use]
    pub fn next(self, outcome: Outcome, job: Self) -> Self {
        self.member("next", outcome.as_str().to_owned(), job.into_value())
    }

    fn into_value(self) -> Value {
        let mut fields = self.fields;
        if let Some(id) = self.id {
            fields.insert("id".to_owned(), Value::String(id));
        }
        Value::Object(fields)
    }

    /// The job as JSON, as it is enqueued.
    pub fn to_json(&self) -> String {
        self.clone().into_value().to_string()
    }

    pub(super) const fn goes_to(&self) -> Lane {
        self.lane
    }

    pub(super) const fn has_id(&self) -> bool {
        self.id.is_some()
    }
}

macro_rules! redacted {
    ($($name:ident),+) => {$(
        /// Shows nothing: it is about a person.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )+};
}

redacted!(ContactField, UserFields, AddressFields);

/// Leaves out the arguments and whatever else may be about a person.
impl fmt::Debug for JobRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRequest")
            .field("type", &self.fields.get("type"))
            .field("id", &self.id)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{ParseContext, parse_job};

    fn parsed(job: &JobRequest) -> crate::contract::Job {
        let context = ParseContext { allow_missing_caller_id: false, default_id: "x", generation: 0 };
        parse_job(job.to_json().as_bytes(), context).unwrap()
    }

    #[test]
    fn each_type_is_what_a_worker_accepts() {
        let email = || ContactField::email("ada@example.com");
        let address = AddressFields {
            address_type: Some(AddressType::Billing),
            street_address: Some("1 rue de la Paix".into()),
            address_complement: Some("B".into()),
            locality: Some("Paris".into()),
            postal_code: Some("75002".into()),
            country: Some("FRANCE".into()),
        };
        let user = UserFields {
            email: "ada@example.com".into(),
            phone_number: Some("+33612345678".into()),
            first_name: Some("Ada".into()),
            last_name: Some("L".into()),
            gender: Some(Gender::Female),
            birthdate: Some("1990-12-10".into()),
            addresses: vec![address],
        };
        let challenge = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
        for (job, job_type) in [
            (JobRequest::check_user(ContactField::phone("+33612345678")), JobType::CheckUser),
            (JobRequest::create_user("c", &user), JobType::CreateUser),
            (JobRequest::start_otp(email()), JobType::StartOtp),
            (JobRequest::verify_otp(email(), "123456"), JobType::VerifyOtp),
            (JobRequest::finalize_consent("c", challenge), JobType::FinalizeConsent),
            (JobRequest::verify_and_finalize("c", email(), "123456"), JobType::FinalizeConsent),
        ] {
            assert_eq!(parsed(&job.caller_id("caller")).job_type, job_type);
        }
    }

    #[test]
    fn every_field_arrives() {
        let job = JobRequest::check_user(ContactField::email("a@example.com"))
            .id("j-1")
            .caller_id("c")
            .customer_reference("r")
            .merchant_id("3fa85f64-5717-4562-b3fc-2c963f66afa6")
            .ttl(Duration::from_millis(1500))
            .run_at_ms(1_795_374_676_077)
            .max_attempts(3)
            .reply()
            .batch("b")
            .meta("k", "v")
            .trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=b".into()))
            .next(Outcome::Exists, JobRequest::start_otp(ContactField::email("a@example.com")).id("j-2"));
        let job = parsed(&job);
        assert_eq!(job.id.unwrap().as_str(), "j-1");
        assert_eq!((job.ttl_ms, job.run_at_ms, job.max_attempts), (Some(1500), Some(1_795_374_676_077), Some(3)));
        assert_eq!((job.reply, job.batch.as_deref(), job.meta.unwrap()["k"].as_str()), (true, Some("b"), Some("v")));
        assert!(job.merchant_id.is_some() && job.customer_reference.is_some());
        assert!(job.traceparent.is_some() && job.tracestate.is_some());
        assert!(job.next[0].outcome == Outcome::Exists && job.next[0].job.contains("j-2"));
    }

    #[test]
    fn debug_shows_no_person() {
        let job = JobRequest::verify_otp(ContactField::email("ada@example.com"), "123456").caller_id("203.0.113.9");
        let text = format!("{job:?} {:?} {:?}", ContactField::email("ada@example.com"), UserFields::default());
        assert!(!text.contains("ada") && !text.contains("123456") && !text.contains("203.0"), "{text}");
    }
}
