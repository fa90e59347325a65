//! `limits.*`

use super::{
    super::value::{Input, Problems},
    field::{BucketKey, ConfigDraft, Field, Section, ValueKind, boolean, duration, key, seconds, unset},
};
use std::time::Duration;

const MAX_BURST: i64 = 1_000_000;
const BURST: ValueKind = ValueKind::Integer(1, MAX_BURST);

pub(super) static SECTION: Section = Section {
    name: "limits",
    text: "XCO publishes no limits. A bucket without a rate is unlimited until XCO answers 429, which closes it for a while. A \
           burst is the number of calls that may be made at once after a pause. If only the rate is set, the burst is what \
           the rate allows in one second, and at least 1.",
    keys: &[
        unset(
            "caller.rate",
            Field { kind: ValueKind::Rate, set: |d, _, i| set_rate(d, BucketKey::Caller, i) },
            "Limit of each caller (the customer's browser address or session).",
        ),
        unset(
            "caller.burst",
            Field { kind: BURST, set: |d, _, i| set_burst(d, BucketKey::Caller, i) },
            "Burst of each caller.",
        ),
        unset(
            "client.rate",
            Field { kind: ValueKind::Rate, set: |d, _, i| set_rate(d, BucketKey::Client, i) },
            "Limit of all calls without a caller, together. Interactive jobs go first; bulk jobs get the rest.",
        ),
        unset(
            "client.burst",
            Field { kind: BURST, set: |d, _, i| set_burst(d, BucketKey::Client, i) },
            "Burst of all calls without a caller.",
        ),
        unset(
            "total.rate",
            Field { kind: ValueKind::Rate, set: |d, _, i| set_rate(d, BucketKey::Total, i) },
            "Limit of all calls together. Interactive jobs go first; bulk jobs get the rest.",
        ),
        unset(
            "total.burst",
            Field { kind: BURST, set: |d, _, i| set_burst(d, BucketKey::Total, i) },
            "Burst of all calls together.",
        ),
        unset(
            "types.*.rate",
            Field { kind: ValueKind::Rate, set: |d, job_type, i| set_rate(d, BucketKey::Type(job_type), i) },
            "Limit of each caller for the calls of one job type, in a bucket of its own.",
        ),
        unset(
            "types.*.burst",
            Field { kind: BURST, set: |d, job_type, i| set_burst(d, BucketKey::Type(job_type), i) },
            "Burst of each caller for the calls of one job type.",
        ),
        key(
            "allow_missing_caller_id",
            "false",
            boolean!(limits.allow_missing_caller_id),
            "If true, jobs that need a caller and have none run, and spend the bucket of `limits.client`. If false, they are \
             rejected.",
        ),
        key(
            "learn",
            "true",
            boolean!(limits.learn),
            "If true, a 429 also lowers the rate of its bucket. While no further 429 arrives the rate grows back, up to the \
             configured one.",
        ),
        key(
            "margin",
            "\"20ms\"",
            duration!(Duration::ZERO, seconds(10), limits.margin),
            "Safety margin for network jitter. At most half of a burst, and at most this much of it, stays unused, so that a \
             limit equal to XCO's is never exceeded. Without a burst, calls are spaced up to 3 % or 3 ms wider. With any margin \
             calls are spaced 1 % wider, for clocks that drift. `0s` uses the limits unchanged.",
        ),
    ],
};

fn set_rate(draft: &mut ConfigDraft, bucket: BucketKey, input: &Input<'_>) -> Result<(), Problems> {
    draft.bucket(bucket).rate = Some(input.rate()?);
    Ok(())
}

fn set_burst(draft: &mut ConfigDraft, bucket: BucketKey, input: &Input<'_>) -> Result<(), Problems> {
    draft.bucket(bucket).burst = Some(input.integer(1..=MAX_BURST)?);
    Ok(())
}
