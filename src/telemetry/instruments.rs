//! The instruments behind the worker's metrics: their names, descriptions and labels.

use super::series::{Series, StatusSeries, WhatSeries};
use crate::contract::Lane;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Gauge, Histogram, Meter},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;

/// The HTTP status with which successful calls are recorded.
pub(super) const SUCCESS: u16 = 200;

/// Upper bounds of the histograms' buckets, in seconds: from a Redis round trip to a long wait for a limit.
const BOUNDARIES_S: [f64; 18] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// What is counted and measured, each bound or registered once.
pub(super) struct Instruments {
    pub(super) provider: SdkMeterProvider,
    pub(super) registry: Registry,
    pub(super) completions: StatusSeries<BoundCounter<u64>>,
    pub(super) wait: Series<BoundHistogram<f64>>,
    pub(super) total: StatusSeries<BoundHistogram<f64>>,
    pub(super) dead_letters: Series<BoundCounter<u64>>,
    pub(super) xco: Histogram<f64>,
    /// The same for successful calls, which are most.
    pub(super) xco_successes: Series<BoundHistogram<f64>>,
    pub(super) retries: Series<BoundCounter<u64>>,
    pub(super) rate_limited: Series<BoundCounter<u64>>,
    pub(super) limited: Series<BoundCounter<u64>>,
    pub(super) client_refused: Counter<u64>,
    pub(super) reclaimed: Counter<u64>,
    pub(super) gateway_requests: Counter<u64>,
    pub(super) script_failures: Counter<u64>,
    pub(super) entries_removed: Counter<u64>,
    pub(super) adrift: Counter<u64>,
    pub(super) duplicates: BoundCounter<u64>,
    pub(super) redis_errors: WhatSeries,
    pub(super) preflight: Gauge<u64>,
    pub(super) in_flight: Gauge<i64>,
    pub(super) backlog: Gauge<u64>,
    pub(super) oldest: Gauge<f64>,
    pub(super) over_max_pending: Gauge<u64>,
    pub(super) delayed: Gauge<u64>,
    pub(super) trimmed_unread: Counter<u64>,
    pub(super) learned_rate: Gauge<f64>,
    pub(super) learned: Gauge<u64>,
    pub(super) closed: Gauge<u64>,
    pub(super) queued: Gauge<u64>,
    pub(super) breaker: Gauge<u64>,
    pub(super) calls_allowed: Gauge<u64>,
    pub(super) clock_steps: Counter<u64>,
    pub(super) from_the_future: Counter<u64>,
}

impl Instruments {
    /// Registers all instruments.
    pub(super) fn new(meter: &Meter, provider: SdkMeterProvider, registry: Registry) -> Self {
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let seconds = |name: &'static str, what: &'static str| {
            meter
                .f64_histogram(name)
                .with_description(what)
                .with_unit("s")
                .with_boundaries(BOUNDARIES_S.to_vec())
                .build()
        };
        let gauge = |name: &'static str, what: &'static str| meter.u64_gauge(name).with_description(what).build();

        let completions = counter("xco_worker.completions", "Jobs that ended, by type and status");
        let wait = seconds("xco_worker.job_wait", "Time until the first call, without waits for limits, by type");
        let total = seconds("xco_worker.job_total", "Time from enqueueing to completion, by type and status");
        let dead_letters = counter("xco_worker.dead_letters", "Jobs that became dead letters, by type");
        let retries = counter("xco_worker.retries", "Jobs delayed for another attempt, by type");
        let rate_limited = counter("xco_worker.rate_limited", "Calls that XCO answered with 429, by type");
        let limited = counter("xco_worker.limited", "Jobs delayed for a limit before any call, by type");
        let redis_errors = counter("xco_worker.redis_errors", "Redis commands that failed, by purpose");
        let trimmed_unread = |what| {
            let counter = counter("xco_worker.completions_trimmed_unread", what);
            // Makes the series exist, so that an alert sees the first one, too.
            counter.add(0, &[]);
            counter
        };
        let clock_steps = counter("xco_worker.clock_steps", "Steps of Redis's clock, by direction");
        let from_the_future =
            counter("xco_worker.entries_from_the_future", "Jobs whose entry id was ahead of Redis's clock");
        let client_refused =
            counter("xco_worker.client_refused", "Calls that XCO refused because of this client, by HTTP status");
        let script_failures = counter("xco_worker.script_failures", "Commands that Redis refused inside a script");
        let entries_removed = counter(
            "xco_worker.entries_removed",
            "Entries of a lane that something other than a worker removed before they had ended",
        );
        let adrift = counter("xco_worker.adrift", "Deliveries missing from the pending list, executed again");
        // Makes the series exist, so that an alert sees the first one, too.
        from_the_future.add(0, &[]);
        adrift.add(0, &[]);
        for reason in ["WRONGTYPE", "NOPERM", "ERR"] {
            script_failures.add(0, &[KeyValue::new("script", "finish"), KeyValue::new("reason", reason)]);
        }
        for status in [401, 403] {
            client_refused.add(0, &[KeyValue::new("status", status_label(status))]);
        }
        for lane in Lane::ALL {
            let labels = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", 0_i64)];
            entries_removed.add(0, &labels);
        }
        for direction in ["back", "forward"] {
            clock_steps.add(0, &[KeyValue::new("direction", direction)]);
        }
        let overloaded = "1 if a lane holds more than queue.max_pending, by lane and partition";
        let trimmed = "Completions trimmed for space before every reader group had read them";
        let xco = seconds("xco_worker.xco_call", "Calls to XCO, by type and HTTP status (none: no answer)");
        Self {
            completions: StatusSeries::new(move |attributes| completions.bind(attributes)),
            wait: Series::new(move |attributes| wait.bind(attributes)),
            total: StatusSeries::new(move |attributes| total.bind(attributes)),
            dead_letters: Series::new(move |attributes| dead_letters.bind(attributes)),
            xco_successes: successes_of(xco.clone()),
            xco,
            retries: Series::new(move |attributes| retries.bind(attributes)),
            rate_limited: Series::new(move |attributes| rate_limited.bind(attributes)),
            limited: Series::new(move |attributes| limited.bind(attributes)),
            client_refused,
            reclaimed: counter("xco_worker.reclaimed", "Jobs taken over from dead workers"),
            gateway_requests: counter("xco_worker.gateway_requests", "Requests to the gateway, by HTTP status"),
            script_failures,
            entries_removed,
            adrift,
            duplicates: counter("xco_worker.duplicates", "Jobs dropped because their id was known already").bind(&[]),
            redis_errors: WhatSeries::new(redis_errors),
            preflight: gauge("xco_worker.preflight_findings", "Findings of the check of Redis, by kind"),
            in_flight: meter.i64_gauge("xco_worker.in_flight").with_description("Jobs in this worker's memory").build(),
            backlog: gauge("xco_worker.backlog", "Jobs waiting, by lane and partition"),
            oldest: meter
                .f64_gauge("xco_worker.backlog_oldest_age")
                .with_description("Age of the oldest waiting job, by lane and partition")
                .with_unit("s")
                .build(),
            over_max_pending: gauge("xco_worker.over_max_pending", overloaded),
            delayed: gauge("xco_worker.delayed", "Jobs delayed for a retry, a limit or their run_at, by partition"),
            trimmed_unread: trimmed_unread(trimmed),
            learned_rate: meter
                .f64_gauge("xco_worker.learned_rate")
                .with_description(
                    "Rate of a shared limit learned from 429s, in calls per second (0: none), by bucket and partition",
                )
                .build(),
            learned: gauge("xco_worker.limits_learned", "Limits with a rate learned from 429s, by partition"),
            closed: gauge("xco_worker.limits_closed", "Limits closed because of a 429, by partition"),
            queued: gauge("xco_worker.quota_queue", "Bulk jobs waiting for a shared limit, by bucket and partition"),
            breaker: gauge(
                "xco_worker.breaker",
                "State of a breaker: 0 closed, 1 trickle, 2 open. By route: the job type, or all",
            ),
            calls_allowed: gauge("xco_worker.calls_allowed", "Maximum number of simultaneous calls to XCO"),
            clock_steps,
            from_the_future,
            provider,
            registry,
        }
    }
}

/// The series of the calls of each type that XCO answered with [`SUCCESS`].
fn successes_of(calls: Histogram<f64>) -> Series<BoundHistogram<f64>> {
    Series::new(move |attributes| {
        let status = KeyValue::new("status", status_label(SUCCESS));
        calls.bind(&[attributes, &[status]].concat())
    })
}

/// Label of a status. One of a fixed set: XCO might answer any status, and each label creates a series that is kept for
/// ever.
#[allow(clippy::match_overlapping_arm, reason = "the classes are for what is not named above them")]
pub(super) const fn status_label(http_status: u16) -> &'static str {
    match http_status {
        200 => "200",
        201 => "201",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        0 => "none",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}
