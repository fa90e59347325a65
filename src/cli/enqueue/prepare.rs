//! Checking a job before it is enqueued, and finding its place.

use crate::{
    config::Config,
    contract::{EntryId, Fault, Job, Lane, MAX_JOB_BYTES, Origin, ParseContext, parse_job, partition_of},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{fmt, fmt::Write};

/// A line may be longer than a job by the lane that it names.
pub(super) const MAX_LINE_BYTES: usize = MAX_JOB_BYTES + 1024;

/// A valid job, and where it goes.
pub(super) struct Ready {
    pub(super) id: Option<String>,
    pub(super) lane: Lane,
    pub(super) partition: u16,
    pub(super) json: String,
}

/// Checks a job as a worker will.
pub(super) fn prepare(json: String, lane: Lane, config: &Config) -> Result<Ready, Vec<Fault>> {
    // Its entry is not known yet; any other is as long, and children's ids are derived from it.
    let origin = Origin { lane, partition: 0, entry: EntryId { ms: 1_732_265_000_000, seq: 0 } };
    let context = ParseContext {
        allow_missing_caller_id: config.limits.allow_missing_caller_id,
        default_id: &origin.to_string(),
        generation: 0,
    };
    let job = parse_job(json.as_bytes(), context).map_err(|rejection| rejection.faults)?;
    Ok(Ready {
        partition: place(&job, config.redis.partitions),
        id: job.id.as_ref().map(|id| id.as_str().to_owned()),
        lane,
        json,
    })
}

fn place(job: &Job, partitions: u16) -> u16 {
    // Any will do for a job without caller and id.
    job.partition_key().map_or_else(|| rand::random::<u16>() % partitions.max(1), |key| partition_of(key, partitions))
}

/// A line of NDJSON, its `lane` taken off.
pub(super) fn line(text: &str, default_lane: Lane, config: &Config) -> Result<Ready, Vec<Fault>> {
    let (json, lane) = match serde_json::from_str::<Members<'_>>(text) {
        Ok(members) => match members.lane() {
            Ok(None) => (text.trim().to_owned(), default_lane),
            Ok(Some(lane)) => (members.without_lane(), lane),
            Err(detail) => return Err(vec![Fault { pointer: "/lane".to_owned(), detail }]),
        },
        // For validation to say what is wrong.
        Err(_) => (text.trim().to_owned(), default_lane),
    };
    prepare(json, lane, config)
}

/// The members of an object, in order, a repeated key as often as it is there: validation must see what was written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Members<'_> {
    fn lane(&self) -> Result<Option<Lane>, String> {
        let mut lanes = self.0.iter().filter(|(key, _)| key == "lane");
        let (Some((_, lane)), rest) = (lanes.next(), lanes.next()) else { return Ok(None) };
        if rest.is_some() {
            return Err("stands more than once".to_owned());
        }
        let lane: String = serde_json::from_str(lane.get()).unwrap_or_default();
        lane.parse().map(Some).map_err(|_| "must be interactive or bulk".to_owned())
    }

    fn without_lane(&self) -> String {
        let mut json = String::from("{");
        for (key, value) in self.0.iter().filter(|(key, _)| key != "lane") {
            let comma = if json.len() > 1 { "," } else { "" };
            // Writing to a String cannot fail, nor can text be no JSON.
            let key = serde_json::to_string(key).unwrap_or_default();
            let _ = write!(json, "{comma}{key}:{}", value.get());
        }
        json.push('}');
        json
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JOB: &str = r#"{"type":"CheckUser","caller_id":"c","args":{"email":"a@example.com"}}"#;

    fn fault(text: &str) -> String {
        line(text, Lane::Bulk, &Config::default()).err().unwrap()[0].pointer.clone()
    }

    #[test]
    fn a_lane_is_taken_off_and_the_rest_left_as_it_was() {
        let config = Config::default();
        let with = JOB.replace(r#""type""#, r#" "lane" : "interactive", "type""#);
        let ready = line(&with, Lane::Bulk, &config).ok().unwrap();
        assert_eq!((ready.json.as_str(), ready.lane, ready.partition), (JOB, Lane::Interactive, 0));
        let ready = line(&format!(" {JOB}\r"), Lane::Bulk, &config).ok().unwrap();
        assert_eq!((ready.json.as_str(), ready.lane), (JOB, Lane::Bulk));
    }

    #[test]
    fn faults_are_found_before_anything_is_enqueued() {
        assert_eq!(fault("nonsense"), "");
        assert_eq!(fault("[]"), "");
        assert_eq!(fault(&JOB.replace("a@", "a")), "/args/email");
        assert_eq!(fault(&JOB.replace(r#""type""#, r#""lane":"fast","type""#)), "/lane");
        assert_eq!(fault(&JOB.replace(r#""type""#, r#""lane":"bulk","lane":"bulk","type""#)), "/lane");
        // A repeated key must not hide behind the lane.
        assert_eq!(fault(&JOB.replace(r#""args""#, r#""lane":"bulk","caller_id":"d","args""#)), "/caller_id");
    }

    #[test]
    fn a_callers_jobs_share_a_partition() {
        let mut config = Config::default();
        config.redis.partitions = 16;
        let of = |json: &str| line(json, Lane::Bulk, &config).ok().unwrap().partition;
        assert_eq!(of(JOB), partition_of("c", 16));
        let other = JOB.replace("a@example.com", "b@example.com").replace(r#""type""#, r#""id":"x","type""#);
        assert_eq!(of(&other), of(JOB));
    }
}
