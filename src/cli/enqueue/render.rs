//! What `enqueue` prints of one job.

use super::flags::in_words;
use crate::{
    cli::{print_json, print_line, rows::printable, say},
    operations::enqueue::{Enqueued, InvalidJob},
};
use serde_json::json;

/// Prints the id of an enqueued job.
pub(super) fn announce(job: &Enqueued, json: bool) -> anyhow::Result<()> {
    if json { print_json(&json!(job)) } else { print_line(&job.id) }
}

/// Reports what is wrong with a job from flags, one line for each fault.
pub(super) fn report_flags(invalid: &InvalidJob) {
    for fault in invalid.faults() {
        say(&printable(&in_words(&fault)));
    }
}

/// Reports what is wrong with a job in JSON, one line for each fault, with its JSON Pointer.
pub(super) fn report(invalid: &InvalidJob, before: &str) {
    for fault in invalid.faults() {
        let at = if fault.pointer.is_empty() { "the job" } else { &fault.pointer };
        say(&format!("{before}{}: {}", printable(at), printable(&fault.detail)));
    }
}
