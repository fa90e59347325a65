//! Bound series, found by job type and status instead of by attributes. Each is created at its first use, so that
//! events which never happened are not exported.

use crate::contract::{JobType, Status};
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, Counter},
};
use std::sync::OnceLock;

/// Number of job types, plus one for a job whose type could not be read.
const TYPES: usize = JobType::ALL.len() + 1;
const STATUSES: usize = 5;

type Bind<T> = Box<dyn Fn(&[KeyValue]) -> T + Send + Sync>;

/// One series for each job type.
pub(super) struct Series<T> {
    cells: [OnceLock<T>; TYPES],
    bind: Bind<T>,
}

impl<T> Series<T> {
    pub(super) fn new(bind: impl Fn(&[KeyValue]) -> T + Send + Sync + 'static) -> Self {
        Self { cells: [const { OnceLock::new() }; TYPES], bind: Box::new(bind) }
    }

    pub(super) fn of(&self, job_type: Option<JobType>) -> &T {
        // `type_index` is below `TYPES`: the arrays are made for it.
        self.cells[type_index(job_type)].get_or_init(|| (self.bind)(&[type_label(job_type)]))
    }
}

/// One series for each job type and status.
pub(super) struct StatusSeries<T> {
    cells: [[OnceLock<T>; STATUSES]; TYPES],
    bind: Bind<T>,
}

impl<T> StatusSeries<T> {
    pub(super) fn new(bind: impl Fn(&[KeyValue]) -> T + Send + Sync + 'static) -> Self {
        Self { cells: [const { [const { OnceLock::new() }; STATUSES] }; TYPES], bind: Box::new(bind) }
    }

    pub(super) fn of(&self, job_type: Option<JobType>, status: Status) -> &T {
        self.cells[type_index(job_type)][status_index(status)]
            .get_or_init(|| (self.bind)(&[type_label(job_type), KeyValue::new("status", status.as_str())]))
    }
}

/// Series of Redis errors. Errors are rare, so series are found by attribute. The usual ones start at 0, because an
/// alert on a rate misses the first error of a series that is created with it.
pub(super) struct WhatSeries {
    counter: Counter<u64>,
    _usual: Vec<BoundCounter<u64>>,
}

impl WhatSeries {
    pub(super) fn new(counter: Counter<u64>) -> Self {
        let usual = ["read", "admit", "finish", "replicate", "housekeeping"].map(|what| {
            let bound = counter.bind(&[KeyValue::new("what", what)]);
            bound.add(0);
            bound
        });
        Self { counter, _usual: usual.into() }
    }

    pub(super) fn add(&self, what: &'static str) {
        self.counter.add(1, &[KeyValue::new("what", what)]);
    }
}

fn type_label(job_type: Option<JobType>) -> KeyValue {
    KeyValue::new("type", job_type.map_or("unknown", JobType::as_str))
}

/// The place of a type's series. Jobs whose type is unknown come last.
fn type_index(job_type: Option<JobType>) -> usize {
    job_type.map_or(JobType::ALL.len(), JobType::index)
}

const fn status_index(status: Status) -> usize {
    match status {
        Status::Succeeded => 0,
        Status::Failed => 1,
        Status::Expired => 2,
        Status::Cancelled => 3,
        Status::Rejected => 4,
    }
}
