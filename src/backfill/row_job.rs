//! A row's `args` → the job that checks the customer and, where it has no account, creates it.

use crate::contract::{Args, Fault, JobType, MAX_JOB_BYTES, ParseContext, Partitions, parse_job, partition_of};
use serde::Serialize;
use serde_json::value::RawValue;

/// A fault of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// The CSV column, or the JSON Pointer into an NDJSON line. Empty: the whole row.
    pub place: String,
    /// What would be right. It never quotes the row.
    pub reason: String,
}

/// A valid row and its job.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) reference: String,
    pub(super) email: String,
    /// The job's JSON.
    pub(super) job: String,
    pub(super) partition: u16,
}

/// What the jobs of all rows have in common.
#[derive(Debug, Clone)]
pub struct Target {
    /// The batch.
    pub batch: String,
    /// The merchant, if it is another than the workers' own.
    pub merchant_id: Option<String>,
    /// `redis.partitions`
    pub partitions: Partitions,
}

#[derive(Serialize)]
struct CreateUser<'a> {
    r#type: JobType,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_id: Option<&'a str>,
    args: &'a RawValue,
}

#[derive(Serialize)]
struct FollowUp<'a> {
    absent: FollowUpJob<'a>,
}

#[derive(Serialize)]
struct FollowUpJob<'a> {
    r#type: JobType,
    args: &'a RawValue,
}

#[derive(Serialize)]
struct RowContact<'a> {
    email: &'a str,
}

#[derive(Serialize)]
struct CheckUser<'a> {
    id: String,
    r#type: JobType,
    customer_reference: &'a str,
    batch: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_id: Option<&'a str>,
    args: RowContact<'a>,
    next: FollowUp<'a>,
}

impl Target {
    /// The job of row `number` with these `args`, or every fault. A fault's place is a JSON Pointer into `args`.
    pub(super) fn job(&self, number: u64, args: &RawValue) -> Result<Prepared, Vec<RowFault>> {
        let merchant_id = self.merchant_id.as_deref();
        let alone = CreateUser { r#type: JobType::CreateUser, merchant_id, args };
        let alone = serde_json::to_string(&alone).unwrap_or_default();
        let context = ParseContext { allow_missing_caller_id: false, default_id: "row", generation: 0 };
        let job = parse_job(alone.as_bytes(), context).map_err(|rejection| faults(rejection.faults))?;
        let Args::CreateUser { customer_reference, user, .. } = job.args else { return Err(Vec::new()) };
        let (reference, email) = (customer_reference.as_str(), user.email.expose());
        let check = CheckUser {
            id: format!("{}/{number}", self.batch),
            r#type: JobType::CheckUser,
            customer_reference: reference,
            batch: &self.batch,
            merchant_id,
            args: RowContact { email },
            next: FollowUp { absent: FollowUpJob { r#type: JobType::CreateUser, args } },
        };
        let job = serde_json::to_string(&check).unwrap_or_default();
        if job.len() > MAX_JOB_BYTES {
            let reason = format!("makes a job of more than {MAX_JOB_BYTES} bytes");
            return Err(vec![RowFault { place: String::new(), reason }]);
        }
        // The reference is the job's caller: each customer has its own limit, and the customer's jobs share a partition.
        let partition = partition_of(reference, self.partitions);
        Ok(Prepared { reference: reference.to_owned(), email: email.to_owned(), job, partition })
    }
}

fn faults(faults: Vec<Fault>) -> Vec<RowFault> {
    let place = |pointer: String| pointer.strip_prefix("/args").map(str::to_owned).unwrap_or(pointer);
    faults.into_iter().map(|fault| RowFault { place: place(fault.pointer), reason: fault.detail }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{Contact, Job};
    use serde_json::{Value, json};

    fn of(partitions: u16) -> Partitions {
        Partitions::new(partitions).unwrap()
    }

    fn prepare(args: &Value, partitions: u16) -> Result<Prepared, Vec<RowFault>> {
        let target = Target { batch: "b-1".to_owned(), merchant_id: None, partitions: of(partitions) };
        target.job(7, &serde_json::value::to_raw_value(args).unwrap())
    }

    fn parsed(prepared: &Prepared) -> Job {
        let context = ParseContext { allow_missing_caller_id: false, default_id: "", generation: 0 };
        parse_job(prepared.job.as_bytes(), context).unwrap()
    }

    #[test]
    fn a_row_becomes_a_check_and_a_creation_after_it() {
        let args = json!({"customer_reference": "c/1", "user": {"email": "a@example.com", "first_name": "Zoë"}});
        let prepared = prepare(&args, 16).unwrap();
        let job = parsed(&prepared);
        assert_eq!(job.id.as_ref().unwrap().as_str(), "b-1/7");
        assert_eq!((job.batch.as_deref(), job.job_type), (Some("b-1"), JobType::CheckUser));
        assert!(
            matches!(&job.args, Args::CheckUser { contact: Contact::Email(email) } if email.expose() == "a@example.com")
        );
        assert_eq!(prepared.partition, partition_of(job.partition_key().unwrap(), of(16)));
        let child: Value = serde_json::from_str(&job.next[0].job).unwrap();
        assert_eq!((child["id"].as_str(), &child["args"]), (Some("b-1/7/absent"), &args));
        assert_eq!((child["batch"].as_str(), child["customer_reference"].as_str()), (Some("b-1"), Some("c/1")));
    }

    #[test]
    fn every_fault_of_a_row_is_told() {
        let args = json!({"user": {"email": "nobody", "nick": "x"}});
        let faults = prepare(&args, 1).err().unwrap();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["/user/email", "/user/nick", "/customer_reference"]);
        assert!(faults.iter().all(|fault| !fault.reason.contains("nobody")));
        let long = json!({"customer_reference": "c", "user": {"email": "a@example.com", "addresses": [
            {"locality": "é".repeat(60_000)}]}});
        assert!(prepare(&long, 1).is_err());
    }

    #[test]
    fn the_merchant_is_checked_with_the_row() {
        let target = Target { batch: "b".to_owned(), merchant_id: Some("x".to_owned()), partitions: Partitions::ONE };
        let args = json!({"customer_reference": "c", "user": {"email": "a@example.com"}});
        let faults = target.job(1, &serde_json::value::to_raw_value(&args).unwrap()).err().unwrap();
        assert_eq!(faults[0].place, "/merchant_id");
    }
}
