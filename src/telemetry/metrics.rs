//! The worker's metrics. Cheap to clone; recording never blocks.
//!
//! The series of a job are bound once and kept in an array by type and status. Counting a completion therefore costs
//! three array look-ups and a few atomic additions, and hashes no attributes.

use super::instruments::{Instruments, SUCCESS, status_label};
use crate::contract::{JobType, Lane, Status};
use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};
use std::{fmt, sync::Arc, time::Duration};

/// The worker's metrics (OpenTelemetry: scraped at `/metrics`, exported over OTLP if configured).
///
/// The default value records nothing.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Instruments>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Metrics(on)" } else { "Metrics(off)" })
    }
}

/// Number of a partition's limits that 429s have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitFigures {
    /// Number of buckets that have a learned rate.
    pub learned: u64,
    /// Number of buckets that are closed because of a 429.
    pub closed: u64,
}

impl Metrics {
    /// Metrics with a registry of their own, for [`Metrics::prometheus_text`]. Fails if OpenTelemetry cannot register
    /// them.
    pub fn new() -> Result<Self, opentelemetry_sdk::error::OTelSdkError> {
        Self::with_provider(SdkMeterProvider::builder())
    }

    /// As [`Metrics::new`], on a builder that brings a resource and perhaps a periodic exporter.
    pub(super) fn with_provider(builder: MeterProviderBuilder) -> Result<Self, opentelemetry_sdk::error::OTelSdkError> {
        let registry = Registry::new();
        let reader =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build()?;
        let provider = builder.with_reader(reader).build();
        let meter = provider.meter("xco-worker");
        Ok(Self(Some(Arc::new(Instruments::new(&meter, provider, registry)))))
    }

    /// All metrics in Prometheus's text format; empty if nothing is recorded. Fails if they cannot be encoded.
    pub fn prometheus_text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        if let Some(on) = &self.0 {
            TextEncoder::new().encode(&on.registry.gather(), &mut text)?;
        }
        Ok(text)
    }

    /// Registers the function that counts dropped log lines.
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

    /// Records the completion of a job: its status, its wait before the first call, and its total time.
    pub fn completion(&self, job_type: Option<JobType>, status: Status, queued: Duration, total: Duration) {
        let Some(on) = &self.0 else { return };
        on.completions.of(job_type, status).add(1);
        on.wait.of(job_type).record(queued.as_secs_f64());
        on.total.of(job_type, status).record(total.as_secs_f64());
    }

    /// Records that a job became a dead letter.
    pub fn dead_letter(&self, job_type: Option<JobType>) {
        let Some(on) = &self.0 else { return };
        on.dead_letters.of(job_type).add(1);
    }

    /// Records a call to XCO. `http_status` is 0 if there was no answer.
    pub fn xco_call(&self, job_type: JobType, http_status: u16, elapsed: Duration) {
        let Some(on) = &self.0 else { return };
        if http_status == SUCCESS {
            return on.xco_successes.of(Some(job_type)).record(elapsed.as_secs_f64());
        }
        let attributes = [KeyValue::new("type", job_type.as_str()), KeyValue::new("status", status_label(http_status))];
        on.xco.record(elapsed.as_secs_f64(), &attributes);
    }

    /// Records that a job was delayed for another attempt.
    pub fn retry(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.retries.of(Some(job_type)).add(1);
    }

    /// Records a 429.
    pub fn rate_limited(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.rate_limited.of(Some(job_type)).add(1);
    }

    /// Records that a job was delayed for a limit before any call.
    pub fn limited(&self, job_type: JobType) {
        let Some(on) = &self.0 else { return };
        on.limited.of(Some(job_type)).add(1);
    }

    /// Records `n` jobs taken over from dead workers.
    pub fn reclaimed(&self, n: u64) {
        let Some(on) = &self.0 else { return };
        on.reclaimed.add(n, &[]);
    }

    /// Records a request that the gateway answered with this HTTP status.
    pub fn gateway_request(&self, status: u16) {
        let Some(on) = &self.0 else { return };
        on.gateway_requests.add(1, &[KeyValue::new("status", i64::from(status))]);
    }

    /// Records a dropped duplicate.
    pub fn duplicate(&self) {
        let Some(on) = &self.0 else { return };
        on.duplicates.add(1);
    }

    /// Records a failed Redis command. `what` is one of a few static names, such as `read`, `admit` or `finish`.
    pub fn redis_error(&self, what: &'static str) {
        let Some(on) = &self.0 else { return };
        on.redis_errors.add(what);
    }

    /// Records that a script could not do a part of its work. Both labels have few values.
    pub fn script_failure(&self, script: &'static str, reason: &'static str) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new("script", script), KeyValue::new("reason", reason)];
        on.script_failures.add(1, &labels);
    }

    /// Records entries of a lane that something other than a worker removed before their jobs had ended.
    pub fn entries_removed(&self, lane: Lane, partition: u16, count: u64) {
        let Some(on) = &self.0 else { return };
        let labels = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.entries_removed.add(count, &labels);
    }

    /// Records deliveries that were missing from the pending list, because something other than a worker removed them,
    /// and that are executed again.
    pub fn adrift(&self, count: u64) {
        let Some(on) = &self.0 else { return };
        on.adrift.add(count, &[]);
    }

    /// Records the findings of the check before the start, by kind.
    pub fn preflight_findings(&self, counts: impl IntoIterator<Item = (&'static str, u64)>) {
        let Some(on) = &self.0 else { return };
        for (what, n) in counts {
            on.preflight.record(n, &[KeyValue::new("what", what)]);
        }
    }

    /// Records the number of jobs in this worker's memory.
    pub fn in_flight(&self, n: i64) {
        let Some(on) = &self.0 else { return };
        on.in_flight.record(n, &[]);
    }

    /// Records a lane's backlog in a partition: the number of waiting entries and the age of the oldest.
    pub fn backlog(&self, lane: Lane, partition: u16, depth: u64, oldest: Duration) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.backlog.record(depth, &attributes);
        on.oldest.record(oldest.as_secs_f64(), &attributes);
    }

    /// Records whether a lane in a partition holds more than `queue.max_pending`.
    pub fn over_max_pending(&self, lane: Lane, partition: u16, is_over: bool) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("lane", lane.as_str()), KeyValue::new("partition", i64::from(partition))];
        on.over_max_pending.record(u64::from(is_over), &attributes);
    }

    /// Records the number of delayed jobs in a partition (retry, limit, `run_at`).
    pub fn delayed(&self, partition: u16, depth: u64) {
        let Some(on) = &self.0 else { return };
        on.delayed.record(depth, &[KeyValue::new("partition", i64::from(partition))]);
    }

    /// Records how many of a partition's limits 429s have changed. Callers' buckets are only counted: no caller is
    /// named.
    pub fn limits(&self, partition: u16, figures: LimitFigures) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("partition", i64::from(partition))];
        on.learned.record(figures.learned, &attributes);
        on.closed.record(figures.closed, &attributes);
    }

    /// Records the state of a shared bucket (`client`, `total`) in a partition: its learned rate (0: none) and the
    /// number of bulk jobs that wait for it.
    pub fn shared_limit(&self, bucket: &'static str, partition: u16, learned_per_s: f64, queued: u64) {
        let Some(on) = &self.0 else { return };
        let attributes = [KeyValue::new("bucket", bucket), KeyValue::new("partition", i64::from(partition))];
        on.learned_rate.record(learned_per_s, &attributes);
        on.queued.record(queued, &attributes);
    }

    /// Records the state of each breaker (0 closed, 1 half-open, 2 open) by its route (`all`: the one for all calls), and
    /// the maximum number of simultaneous calls.
    pub fn weather(&self, breakers: &[(&'static str, u64)], calls_allowed: usize) {
        let Some(on) = &self.0 else { return };
        for (route, breaker) in breakers {
            on.breaker.record(*breaker, &[KeyValue::new("route", *route)]);
        }
        on.calls_allowed.record(u64::try_from(calls_allowed).unwrap_or(u64::MAX), &[]);
    }

    /// Records that XCO refused a call because of this client and not because of the request.
    pub fn client_refused(&self, http_status: u16) {
        let Some(on) = &self.0 else { return };
        on.client_refused.add(1, &[KeyValue::new("status", status_label(http_status))]);
    }

    /// Records a step of Redis's clock, `forward` or `back`.
    pub fn clock_step(&self, direction: &'static str) {
        let Some(on) = &self.0 else { return };
        on.clock_steps.add(1, &[KeyValue::new("direction", direction)]);
    }

    /// Records a job whose entry id was ahead of Redis's clock when it was first read.
    pub fn entry_from_the_future(&self) {
        let Some(on) = &self.0 else { return };
        on.from_the_future.add(1, &[]);
    }

    /// Records completions that were trimmed before a reader group had read them.
    pub fn completions_trimmed_unread(&self, n: u64) {
        let Some(on) = &self.0 else { return };
        on.trimmed_unread.add(n, &[]);
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
        metrics.gateway_request(202);
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
            r#"xco_worker_gateway_requests_total{status="202"} 1"#,
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
