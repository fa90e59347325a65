//! Checks a job as a worker will, and finds its lane and partition.

use super::members::Members;
use crate::{
    config::Config,
    contract::{
        EntryId, Fault, Job, JobId, JobType, Lane, MAX_JOB_BYTES, MerchantId, Origin, ParseContext, Partitions,
        parse_job, partition_of,
    },
    operations::MerchantScope,
    queue::LaneJob,
};
use std::{fmt, time::Duration};

/// Maximum length of a job that names its own lane, in bytes: the `lane` member comes on top of the job.
pub const MAX_REQUEST_BYTES: usize = MAX_JOB_BYTES + 1024;

/// What a job gets from the request that it came with.
#[derive(Debug, Clone, Copy)]
pub struct JobDefaults<'a> {
    /// The merchants that the caller may act for. If it is one, a job that names none gets this one.
    pub merchants: &'a MerchantScope,
    /// The trace of a job that names none.
    pub traceparent: Option<&'a str>,
    /// The id of a job that names none, if the request names none either.
    pub id: Option<&'a str>,
}

/// A job to enqueue, not yet checked.
#[derive(Clone, Copy)]
pub struct EnqueueRequest<'a> {
    /// The job's JSON. It may have one member more than a job has: `lane`.
    pub json: &'a str,
    /// The lane of a job that names none.
    pub lane: Lane,
    /// The id of a job that names none, such as an `Idempotency-Key`. A job that names another id is refused.
    pub id: Option<&'a str>,
}

/// A valid job, with the lane and the partition that it goes to.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckedJob {
    pub(super) id: Option<JobId>,
    pub(super) has_reply: bool,
    pub(super) lane_job: LaneJob,
    /// `queue.dedupe_window`
    pub(super) dedupe_window: Duration,
    job_type: JobType,
    merchant_id: Option<MerchantId>,
}

/// Why a job is not enqueued. It never quotes the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    /// A worker would reject the job.
    #[error("the job is not valid")]
    Faults(Vec<Fault>),
    /// The job names another id than the request does.
    #[error("the job has another id than the request")]
    OtherId,
    /// The job, or one in its `next`, belongs to a merchant whose jobs the caller may not touch.
    #[error("the job belongs to another merchant")]
    OtherMerchant,
}

impl InvalidJob {
    /// Every fault, with its JSON Pointer.
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Faults(faults) => faults.clone(),
            Self::OtherId => vec![fault("/id", "must be the id that the request names, or be left out")],
            Self::OtherMerchant => vec![fault("/merchant_id", "must be a merchant that the caller may act for")],
        }
    }

    /// A fault of the whole job.
    pub(super) fn whole(detail: impl Into<String>) -> Self {
        Self::Faults(vec![fault("", detail)])
    }
}

fn fault(pointer: &str, detail: impl Into<String>) -> Fault {
    Fault { pointer: pointer.to_owned(), detail: detail.into() }
}

impl CheckedJob {
    /// The job's own id. Without one, its place in the lane becomes its id.
    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(JobId::as_str)
    }

    /// The type.
    pub const fn job_type(&self) -> JobType {
        self.job_type
    }

    /// The merchant that the job names; without one, the job belongs to `xco.merchant_id`.
    pub const fn merchant_id(&self) -> Option<&MerchantId> {
        self.merchant_id.as_ref()
    }

    /// The lane that the job goes to.
    pub const fn lane(&self) -> Lane {
        self.lane_job.lane
    }

    /// The partition that the job goes to.
    pub const fn partition(&self) -> u16 {
        self.lane_job.partition
    }

    /// The text that is enqueued: the job as it was given, without `lane`, with the request's id where it had none.
    pub fn json(&self) -> &str {
        &self.lane_job.json
    }
}

/// Without the job's text.
impl fmt::Debug for CheckedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedJob")
            .field("id", &self.id)
            .field("job_type", &self.job_type)
            .field("lane", &self.lane())
            .field("partition", &self.partition())
            .finish_non_exhaustive()
    }
}

/// Checks jobs against a configuration. It should be the workers' own.
#[derive(Debug, Clone, Copy)]
pub struct JobChecker {
    allow_missing_caller_id: bool,
    partitions: Partitions,
    dedupe_window: Duration,
}

impl JobChecker {
    /// A checker for the workers that have this configuration.
    pub const fn new(config: &Config) -> Self {
        Self {
            allow_missing_caller_id: config.limits.allow_missing_caller_id,
            partitions: config.redis.partitions,
            dedupe_window: config.queue.dedupe_window,
        }
    }

    /// Checks a job with the workers' own parser. A job that passes is not rejected later.
    ///
    /// # Errors
    /// [`InvalidJob`], with every fault of the job.
    pub fn check(&self, request: EnqueueRequest<'_>) -> Result<CheckedJob, InvalidJob> {
        self.check_with(request, JobDefaults { merchants: &MerchantScope::all(), traceparent: None, id: None })
    }

    /// Checks a job, as [`JobChecker::check`], and completes it from the request that it came with.
    ///
    /// # Errors
    /// [`InvalidJob`], with every fault of the job.
    pub fn check_with(&self, request: EnqueueRequest<'_>, defaults: JobDefaults<'_>) -> Result<CheckedJob, InvalidJob> {
        let EnqueueRequest { json, lane, id } = request;
        // Bounded before it is read. Text that is no object is left to the parser, which says what is wrong with it.
        let members = (json.len() <= MAX_REQUEST_BYTES).then(|| Members::read(json)).flatten();
        let (json, lane) = match &members {
            None => (json.trim().to_owned(), lane),
            Some(members) => {
                let named = members.lane().map_err(|detail| InvalidJob::Faults(vec![fault("/lane", detail)]))?;
                let id = id.or(defaults.id).filter(|_| !members.has("id"));
                let merchant = defaults.merchants.to_fill_in().filter(|_| !members.has("merchant_id"));
                let trace = defaults.traceparent.filter(|_| !members.has("traceparent"));
                let added = [
                    id.map(|id| ("id", id)),
                    merchant.map(|merchant| ("merchant_id", merchant.as_str())),
                    trace.map(|trace| ("traceparent", trace)),
                ];
                let added: Vec<_> = added.into_iter().flatten().collect();
                let is_unchanged = named.is_none() && added.is_empty();
                let text = if is_unchanged { json.trim().to_owned() } else { members.to_job(&added) };
                (text, named.unwrap_or(lane))
            }
        };
        let job = self.parse(&json, lane)?;
        if id.is_some_and(|id| job.id.as_ref().is_some_and(|named| named.as_str() != id)) {
            return Err(InvalidJob::OtherId);
        }
        if !defaults.merchants.covers_tree(&json) {
            return Err(InvalidJob::OtherMerchant);
        }
        let has_id = job.id.is_some();
        Ok(CheckedJob {
            lane_job: LaneJob { lane, partition: self.partition(&job), json, has_id },
            dedupe_window: self.dedupe_window,
            job_type: job.job_type,
            merchant_id: job.merchant_id,
            has_reply: job.reply,
            id: job.id,
        })
    }

    fn parse(self, json: &str, lane: Lane) -> Result<Job, InvalidJob> {
        // The job's entry is not known yet. Any other is as long, and the ids of the job's children derive from it.
        let origin = Origin { lane, partition: 0, entry: EntryId { ms: 1_732_265_000_000, seq: 0 } };
        let context = ParseContext {
            allow_missing_caller_id: self.allow_missing_caller_id,
            default_id: &origin.to_string(),
            generation: 0,
        };
        parse_job(json.as_bytes(), context).map_err(|rejection| InvalidJob::Faults(rejection.faults))
    }

    fn partition(self, job: &Job) -> u16 {
        let any = || rand::random::<u16>() % self.partitions.get();
        job.partition_key().map_or_else(any, |key| partition_of(key, self.partitions))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JOB: &str = r#"{"type":"CheckUser","caller_id":"c","args":{"email":"a@example.com"}}"#;

    fn check(json: &str) -> Result<CheckedJob, InvalidJob> {
        JobChecker::new(&Config::default()).check(EnqueueRequest { json, lane: Lane::Bulk, id: None })
    }

    fn check_with_id(json: &str, id: &str) -> Result<CheckedJob, InvalidJob> {
        JobChecker::new(&Config::default()).check(EnqueueRequest { json, lane: Lane::Bulk, id: Some(id) })
    }

    fn pointer(text: &str) -> String {
        check(text).unwrap_err().faults()[0].pointer.clone()
    }

    #[test]
    fn a_lane_is_removed_and_the_rest_is_unchanged() {
        let with = JOB.replace(r#""type""#, r#" "lane" : "interactive", "type""#);
        let job = check(&with).unwrap();
        assert_eq!((job.json(), job.lane(), job.partition()), (JOB, Lane::Interactive, 0));
        let job = check(&format!(" {JOB}\r")).unwrap();
        assert_eq!((job.json(), job.lane()), (JOB, Lane::Bulk));
    }

    #[test]
    fn faults_are_found_before_anything_is_enqueued() {
        assert_eq!(pointer("nonsense"), "");
        assert_eq!(pointer("[]"), "");
        assert_eq!(pointer(&"x".repeat(MAX_REQUEST_BYTES + 1)), "");
        assert_eq!(pointer(&JOB.replace("a@", "a")), "/args/email");
        assert_eq!(pointer(&JOB.replace(r#""type""#, r#""lane":"fast","type""#)), "/lane");
        assert_eq!(pointer(&JOB.replace(r#""type""#, r#""lane":"bulk","lane":"bulk","type""#)), "/lane");
        // A repeated key must not hide behind the lane.
        assert_eq!(pointer(&JOB.replace(r#""args""#, r#""lane":"bulk","caller_id":"d","args""#)), "/caller_id");
    }

    #[test]
    fn a_callers_jobs_share_a_partition() {
        let mut config = Config::default();
        config.redis.partitions = Partitions::new(16).unwrap();
        let checker = JobChecker::new(&config);
        let partition =
            |json: &str| checker.check(EnqueueRequest { json, lane: Lane::Bulk, id: None }).unwrap().partition();
        assert_eq!(partition(JOB), partition_of("c", config.redis.partitions));
        let other = JOB.replace("a@example.com", "b@example.com").replace(r#""type""#, r#""id":"x","type""#);
        assert_eq!(partition(&other), partition(JOB));
    }

    #[test]
    fn the_requests_id_is_that_of_a_job_without_one() {
        let job = check_with_id(JOB, "k-1").unwrap();
        assert_eq!((job.id(), job.json()), (Some("k-1"), JOB.replacen('{', r#"{"id":"k-1","#, 1).as_str()));
        let null = JOB.replacen('{', r#"{"id":null,"lane":"interactive","#, 1);
        assert_eq!(check_with_id(&null, "k-1").unwrap(), {
            let mut wanted = job.clone();
            wanted.lane_job.lane = Lane::Interactive;
            wanted
        });
        let named = JOB.replacen('{', r#"{"id":"own","#, 1);
        assert_eq!(check_with_id(&named, "own").unwrap().json(), named);
        assert_eq!(check_with_id(&named, "k-1"), Err(InvalidJob::OtherId));
        assert_eq!(check_with_id(JOB, "not valid").unwrap_err().faults()[0].pointer, "/id");
    }

    #[test]
    fn a_job_belongs_to_a_merchant_of_the_caller() {
        let a = MerchantId::from_checked("3fa85f64-5717-4562-b3fc-2c963f66afa6");
        let b = "00000000-5717-4562-b3fc-2c963f66afa6";
        let check_for = |json: &str, merchants: &MerchantScope| {
            let request = EnqueueRequest { json, lane: Lane::Bulk, id: None };
            JobChecker::new(&Config::default())
                .check_with(request, JobDefaults { merchants, traceparent: None, id: None })
        };
        let one = MerchantScope::only([&a], None);
        let filled = check_for(JOB, &one).unwrap();
        assert_eq!(filled.merchant_id(), Some(&a));
        let foreign = JOB.replacen('{', &format!(r#"{{"merchant_id":"{b}","#), 1);
        assert_eq!(check_for(&foreign, &one), Err(InvalidJob::OtherMerchant));
        assert!(check_for(&foreign, &MerchantScope::all()).is_ok());
        let child = format!(r#"{{"next":{{"absent":{foreign}}},"#).replace(r#""caller_id":"c","#, "");
        assert_eq!(check_for(&JOB.replacen('{', &child, 1), &one), Err(InvalidJob::OtherMerchant));
        let own = JOB.replace(r#""caller_id":"c","#, "");
        let child = format!(r#"{{"next":{{"absent":{own}}},"#);
        assert!(check_for(&JOB.replacen('{', &child, 1), &one).is_ok());
    }

    #[test]
    fn debug_shows_no_arguments() {
        assert!(!format!("{:?}", check(JOB).unwrap()).contains("example.com"));
    }
}
