//! The worker's instruments. Cheap to clone; recording never blocks.
//!
//! Every series that a job touches is bound once and kept in an array by type and status: counting a completion is three
//! array look-ups and a few atomic additions, with no attribute set to hash.

use super::series::{Series, StatusSeries, WhatSeries};
use crate::contract::{JobType, Lane, Status};
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Gauge, Histogram, Meter, MeterProvider as _},
};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};
use std::{fmt, sync::Arc, time::Duration};

/// Upper bounds of the histograms' buckets, in seconds: from a Redis round trip to a limit's long wait.
const BOUNDARIES_S: [f64; 18] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The worker's instruments (OpenTelemetry: scraped at `/metrics`, exported by OTLP where asked for).
///
/// The default counts nothing.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Instruments>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Metrics(on)" } else { "Metrics(off)" })
    }
}

struct Instruments {
    provider: SdkMeterProvider,
    registry: Registry,
    completions: StatusSeries<BoundCounter<u64>>,
    wait: Series<BoundHistogram<f64>>,
    total: StatusSeries<BoundHistogram<f64>>,
    dead_letters: Series<BoundCounter<u64>>,
    xco: Histogram<f64>,
    retries: Series<BoundCounter<u64>>,
    rate_limited: Series<BoundCounter<u64>>,
    limited: Series<BoundCounter<u64>>,
    client_refused: Counter<u64>,
    reclaimed: Counter<u64>,
    script_failures: Counter<u64>,
    entries_removed: Counter<u64>,
    adrift: Counter<u64>,
    duplicates: BoundCounter<u64>,
    redis_errors: WhatSeries,
    preflight: Gauge<u64>,
    in_flight: Gauge<i64>,
    backlog: Gauge<u64>,
    oldest: Gauge<f64>,
    over_max_pending: Gauge<u64>,
    delayed: Gauge<u64>,
    trimmed_unread: Counter<u64>,
    learned_rate: Gauge<f64>,
    learned: Gauge<u64>,
    closed: Gauge<u64>,
    queued: Gauge<u64>,
    breaker: Gauge<u64>,
    calls_allowed: Gauge<u64>,
    clock_steps: Counter<u64>,
    from_the_future: Counter<u64>,
}

/// What 429s have taught a partition's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitFigures {
    /// Buckets that have learned a rate.
    pub learned: u64,
    /// Buckets that a 429 keeps closed.
    pub closed: u64,
}

impl Metrics {
    /// Instruments that count, behind a registry of their own for [`Metrics::prometheus_text`].
    pub fn new() -> Result<Self, opentelemetry_sdk::error::OTelSdkError> {
        Self::with_provider(SdkMeterProvider::builder())
    }

    /// The same, with what the builder brings along (a resource, a periodic exporter).
    pub(super) fn with_provider(builder: MeterProviderBuilder) -> Result<Self, opentelemetry_sdk::error::OTelSdkError> {
        let registry = Registry::new();
        let reader =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build()?;
        let provider = builder.with_reader(reader).build();
        let meter = provider.meter("xco-worker");
        Ok(Self(Some(Arc::new(Instruments::new(&meter, provider, registry)))))
    }

    /// Everything counted so far in Prometheus's text format; nothing where nothing is counted.
    pub fn prometheus_text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        if let Some(on) = &self.0 {
            TextEncoder::new().encode(&on.registry.gather(), &mut text)?;
        }
        Ok(text)
    }

    /// Log lines that were dropped, by whoever counts them.
    pub(super) fn log_lines_dropped(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let Some(on) = &self.0 else { return };
        // The provider keeps the callback.
        let _ = on
            .provider
            .meter("xco-worker")
            .u64_observable_counter("xco_worker.log_lines_dropped")
            .with_description("Log lines dropped because stderr was not read, or was closed")
            .with_callback(move |counter| counter.observe(count(), &[]))
            .build();
    }

    pub(super) fn provider(&self) -> Option<SdkMeterProvider> {
        self.0.as_ref().map(|on| on.provider.clone())
    }

    /// A job ended: `status`, and where its time went.
    pub fn completion(&self, job_type: Option<JobType>, status: Status, queued: Duration, total: Duration) {
        let Some(on) = &self.0 else { return };
        on.completions.of(job_type, status).add(1);
        on.wait.of(job_type).record(queued.as_secs_f64());
        on.total.of(job_type, status).record(total.as_secs_f64());
    }

    /// A job ended with a letter among the dead.
    pub fn dead_letter(&self, job_type: Option<JobType>) {
        let Some(on) = &self.0 else { return };
        on.dead_letters.of(job_type).add(1);
    }

    /// A call to XCO ended: `http_status` is 0 where none was answered.
    pub fn xco_call(&self, job_type: JobType, http_status: u16, elapsed: Duration) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("type", job_type.as_str()), KeyValue::new("status", status_label(http_status))];
        on.xco.record(elapsed.as_secs_f64(), &attributes);
    }

    /// A job goes back to wait for its next attempt.
    pub fn retry(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.retries.of(Some(job_type)).add(1);
    }

    /// A 429.
    pub fn rate_limited(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.rate_limited.of(Some(job_type)).add(1);
    }

    /// A job was parked for its limit before any call.
    pub fn limited(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.limited.of(Some(job_type)).add(1);
    }

    /// `n` jobs of dead workers were taken over.
    pub fn reclaimed(&self, n: u64) {
        let Some(on) = &self.0 else { return };
        on.reclaimed.add(n, &[]);
    }

    /// A duplicate was dropped.
    pub fn duplicate(&self) {
        let Some(on) = &self.0 else { return };
        on.duplicates.add(1);
    }

    /// A Redis command failed; `what` is a short static name (`read`, `admit`, `finish`, `replicate`, `housekeeping`).
    pub fn redis_error(&self, what: &'static str) {
        let Some(on) = &self.0 else { return };
        on.redis_errors.add(what);
    }

    /// A script could not do a part of its work; both are of a few words.
    pub fn script_failure(&self, script: &'static str, reason: &'static str) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new("script", script), KeyValue::new("reason", reason)];
        on.script_failures.add(1, &labels);
    }

    /// Entries of a lane that a foreign hand removed before they had ended.
    pub fn entries_removed(&self, lane: Lane, partition: u16, count: u64) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.entries_removed.add(count, &labels);
    }

    /// Deliveries that nobody held, because a foreign hand took them off the pending list, and that are taken up again.
    pub fn adrift(&self, count: u64) {
        let Some(on) = &self.0 else { return };
        on.adrift.add(count, &[]);
    }

    /// What the check before work found, by kind.
    pub fn preflight_findings(&self, counts: impl IntoIterator<Item = (&'static str, u64)>) {
        let Some(on) = &self.0 else { return };
        for (what, n) in counts {
            on.preflight.record(n, &[KeyValue::new("what", what)]);
        }
    }

    /// Jobs this worker holds right now.
    pub fn in_flight(&self, n: i64) {
        let Some(on) = &self.0 else { return };
        on.in_flight.record(n, &[]);
    }

    /// A lane's backlog in a partition: entries waiting, and the age of the oldest.
    pub fn backlog(&self, lane: Lane, partition: u16, depth: u64, oldest: Duration) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.backlog.record(depth, &attributes);
        on.oldest.record(oldest.as_secs_f64(), &attributes);
    }

    /// Whether a lane's load in a partition has raised its alarm (`queue.max_pending`).
    pub fn over_max_pending(&self, lane: Lane, partition: u16, is_over: bool) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.over_max_pending.record(u64::from(is_over), &attributes);
    }

    /// Jobs parked in a partition (retry, limit, `run_at`).
    pub fn delayed(&self, partition: u16, depth: u64) {
        let Some(on) = &self.0 else { return };
        on.delayed.record(depth, &[KeyValue::new("partition", i64::from(partition))]);
    }

    /// What 429s have taught a partition's limits. Of callers' buckets only how many: no caller is named.
    pub fn limits(&self, partition: u16, figures: LimitFigures) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("partition", i64::from(partition))];
        on.learned.record(figures.learned, &attributes);
        on.closed.record(figures.closed, &attributes);
    }

    /// A shared bucket (`client`, `total`) in a partition: the rate it has learned (0: none), and bulk jobs that wait for it.
    pub fn shared_limit(&self, bucket: &'static str, partition: u16, learned_per_s: f64, queued: u64) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("bucket", bucket), KeyValue::new("partition", i64::from(partition))];
        on.learned_rate.record(learned_per_s, &attributes);
        on.queued.record(queued, &attributes);
    }

    /// What each breaker lets through (0 everything, 1 a trickle, 2 nothing), by its route (`all` for that of all calls), and how
    /// many calls may be under way at once.
    pub fn weather(&self, breakers: &[(&'static str, u64)], calls_allowed: usize) {
        let Some(on) = &self.0 else { return };
        for (route, breaker) in breakers {
            on.breaker.record(*breaker, &[KeyValue::new("route", *route)]);
        }
        on.calls_allowed.record(u64::try_from(calls_allowed).unwrap_or(u64::MAX), &[]);
    }

    /// XCO refused a call for what this client is, not for what was asked.
    pub fn client_refused(&self, http_status: u16) {
        let Some(on) = &self.0 else { return };
        on.client_refused.add(1, &[KeyValue::new("status", status_label(http_status))]);
    }

    /// Redis's clock moved by itself, `forward` or `back`.
    pub fn clock_step(&self, direction: &'static str) {
        let Some(on) = &self.0 else { return };
        on.clock_steps.add(1, &[KeyValue::new("direction", direction)]);
    }

    /// A job's entry id lay ahead of Redis's clock when it was first read.
    pub fn entry_from_the_future(&self) {
        let Some(on) = &self.0 else { return };
        on.from_the_future.add(1, &[]);
    }

    /// Completions trimmed although a reader group had not read them.
    pub fn completions_trimmed_unread(&self, n: u64) {
        let Some(on) = &self.0 else { return };
        on.trimmed_unread.add(n, &[]);
    }
}

impl Instruments {
    fn new(meter: &Meter, provider: SdkMeterProvider, registry: Registry) -> Self {
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
        let wait = seconds("xco_worker.job_wait", "From enqueueing to the first call, limits not counted, by type");
        let total = seconds("xco_worker.job_total", "From enqueueing to completion, by type and status");
        let dead_letters = counter("xco_worker.dead_letters", "Jobs kept among the dead, by type");
        let retries = counter("xco_worker.retries", "Jobs sent back to wait for another attempt, by type");
        let rate_limited = counter("xco_worker.rate_limited", "Calls that XCO answered with 429, by type");
        let limited = counter("xco_worker.limited", "Jobs parked for a limit before any call, by type");
        let redis_errors = counter("xco_worker.redis_errors", "Redis commands that failed, by what they were for");
        let trimmed_unread = |what| {
            let counter = counter("xco_worker.completions_trimmed_unread", what);
            // An alert must see the first, too.
            counter.add(0, &[]);
            counter
        };
        let clock_steps = counter("xco_worker.clock_steps", "Steps of Redis's clock, by direction");
        let from_the_future =
            counter("xco_worker.entries_from_the_future", "Jobs whose entry id lay ahead of Redis's clock");
        let client_refused =
            counter("xco_worker.client_refused", "Calls that XCO refused to this client as a whole, by HTTP status");
        let script_failures = counter("xco_worker.script_failures", "Commands that Redis refused inside a script");
        let entries_removed = counter(
            "xco_worker.entries_removed",
            "Entries of a lane that something other than a worker removed before they had ended",
        );
        let adrift = counter("xco_worker.adrift", "Deliveries that no worker held and that are taken up again");
        // An alert must see the first, too.
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
        let overloaded = "1 where a lane holds more than queue.max_pending, by lane and partition";
        let trimmed = "Completions dropped for space before every reader group had read them";
        Self {
            completions: StatusSeries::new(move |attributes| completions.bind(attributes)),
            wait: Series::new(move |attributes| wait.bind(attributes)),
            total: StatusSeries::new(move |attributes| total.bind(attributes)),
            dead_letters: Series::new(move |attributes| dead_letters.bind(attributes)),
            xco: seconds("xco_worker.xco_call", "Calls to XCO, by type and HTTP status (none: no answer)"),
            retries: Series::new(move |attributes| retries.bind(attributes)),
            rate_limited: Series::new(move |attributes| rate_limited.bind(attributes)),
            limited: Series::new(move |attributes| limited.bind(attributes)),
            client_refused,
            reclaimed: counter("xco_worker.reclaimed", "Jobs of dead workers taken over"),
            script_failures,
            entries_removed,
            adrift,
            duplicates: counter("xco_worker.duplicates", "Jobs dropped because their id was there already").bind(&[]),
            redis_errors: WhatSeries::new(redis_errors),
            preflight: gauge("xco_worker.preflight_findings", "What is not as work needs it in Redis, by what it is"),
            in_flight: meter.i64_gauge("xco_worker.in_flight").with_description("Jobs this worker holds").build(),
            backlog: gauge("xco_worker.backlog", "Jobs waiting, by lane and partition"),
            oldest: meter
                .f64_gauge("xco_worker.backlog_oldest_age")
                .with_description("Age of the oldest waiting job, by lane and partition")
                .with_unit("s")
                .build(),
            over_max_pending: gauge("xco_worker.over_max_pending", overloaded),
            delayed: gauge("xco_worker.delayed", "Jobs parked for a retry, a limit or their time, by partition"),
            trimmed_unread: trimmed_unread(trimmed),
            learned_rate: meter
                .f64_gauge("xco_worker.learned_rate")
                .with_description(
                    "Calls a second that 429s have taught a shared limit (0: none), by bucket and partition",
                )
                .build(),
            learned: gauge("xco_worker.limits_learned", "Limits that have learned a rate from 429s, by partition"),
            closed: gauge("xco_worker.limits_closed", "Limits that a 429 keeps closed, by partition"),
            queued: gauge("xco_worker.quota_queue", "Bulk jobs that wait for a shared limit, by bucket and partition"),
            breaker: gauge(
                "xco_worker.breaker",
                "What a breaker lets through: 0 everything, 1 a trickle, 2 nothing. By route: the type whose call it is, or all",
            ),
            calls_allowed: gauge("xco_worker.calls_allowed", "Calls to XCO that may be under way at once"),
            clock_steps,
            from_the_future,
            provider,
            registry,
        }
    }
}

/// A label for a status: XCO might answer anything, and each label is a series kept for ever.
#[allow(clippy::match_overlapping_arm, reason = "the classes are for what is not named above them")]
const fn status_label(http_status: u16) -> &'static str {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.prometheus_text().unwrap()).unwrap()
    }

    #[test]
    fn every_method_has_its_series() {
        let metrics = Metrics::new().unwrap();
        let ms = Duration::from_millis;
        metrics.completion(Some(JobType::CheckUser), Status::Succeeded, ms(3), ms(40));
        metrics.completion(None, Status::Rejected, ms(3), ms(4));
        metrics.dead_letter(None);
        metrics.xco_call(JobType::CreateUser, 0, ms(30));
        metrics.xco_call(JobType::CreateUser, 418, ms(30));
        metrics.retry(JobType::StartOtp);
        metrics.rate_limited(JobType::StartOtp);
        metrics.limited(JobType::VerifyOtp);
        metrics.reclaimed(3);
        metrics.duplicate();
        metrics.redis_error("read");
        metrics.redis_error("a new one");
        metrics.preflight_findings([("permission", 2)]);
        metrics.in_flight(7);
        metrics.backlog(Lane::Bulk, 2, 11, ms(1500));
        metrics.over_max_pending(Lane::Bulk, 2, true);
        metrics.delayed(2, 5);
        metrics.completions_trimmed_unread(9);
        metrics.limits(1, LimitFigures { learned: 3, closed: 2 });
        metrics.shared_limit("client", 1, 12.5, 40);
        metrics.weather(&[("all", 0), ("CreateUser", 2)], 0);
        metrics.clock_step("back");
        metrics.entry_from_the_future();
        let text = text(&metrics);
        for line in [
            r#"xco_worker_completions_total{status="succeeded",type="CheckUser"} 1"#,
            r#"xco_worker_completions_total{status="rejected",type="unknown"} 1"#,
            r#"xco_worker_job_wait_seconds_bucket{type="CheckUser",le="0.0025"} 0"#,
            r#"xco_worker_job_wait_seconds_bucket{type="CheckUser",le="0.005"} 1"#,
            r#"xco_worker_job_total_seconds_count{status="succeeded",type="CheckUser"} 1"#,
            r#"xco_worker_dead_letters_total{type="unknown"} 1"#,
            r#"xco_worker_xco_call_seconds_count{status="none",type="CreateUser"} 1"#,
            r#"xco_worker_xco_call_seconds_count{status="4xx",type="CreateUser"} 1"#,
            r#"xco_worker_retries_total{type="StartOtp"} 1"#,
            r#"xco_worker_rate_limited_total{type="StartOtp"} 1"#,
            r#"xco_worker_limited_total{type="VerifyOtp"} 1"#,
            r#"xco_worker_preflight_findings{what="permission"} 2"#,
            "xco_worker_reclaimed_total 3",
            "xco_worker_duplicates_total 1",
            r#"xco_worker_redis_errors_total{what="read"} 1"#,
            r#"xco_worker_redis_errors_total{what="a new one"} 1"#,
            "xco_worker_in_flight 7",
            r#"xco_worker_backlog{lane="bulk",partition="2"} 11"#,
            r#"xco_worker_backlog_oldest_age_seconds{lane="bulk",partition="2"} 1.5"#,
            r#"xco_worker_over_max_pending{lane="bulk",partition="2"} 1"#,
            r#"xco_worker_delayed{partition="2"} 5"#,
            "xco_worker_completions_trimmed_unread_total 9",
            r#"xco_worker_limits_learned{partition="1"} 3"#,
            r#"xco_worker_limits_closed{partition="1"} 2"#,
            r#"xco_worker_learned_rate{bucket="client",partition="1"} 12.5"#,
            r#"xco_worker_quota_queue{bucket="client",partition="1"} 40"#,
            "xco_worker_breaker{route=\"CreateUser\"} 2",
            "xco_worker_calls_allowed 0",
            r#"xco_worker_clock_steps_total{direction="back"} 1"#,
            r#"xco_worker_clock_steps_total{direction="forward"} 0"#,
            "xco_worker_entries_from_the_future_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn off_counts_nothing() {
        let metrics = Metrics::default();
        metrics.completion(None, Status::Failed, Duration::ZERO, Duration::ZERO);
        assert_eq!(text(&metrics), "");
    }
}
