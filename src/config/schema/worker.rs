//! `worker.*`

use super::field::{Section, boolean, duration, hours, integer, key, seconds};
use std::time::Duration;

pub(super) static SECTION: Section = Section {
    name: "worker",
    text: "",
    keys: &[
        key(
            "concurrency",
            "64",
            integer!(1..=4096, worker.concurrency),
            "Number of worker slots: the maximum number of calls to XCO at once.",
        ),
        key(
            "shutdown_grace",
            "\"25s\"",
            duration!(Duration::ZERO, hours(1), worker.shutdown_grace),
            "After SIGTERM, SIGINT or SIGHUP: maximum time to finish the calls in flight. Jobs that were not started go back to \
             the queue at once.",
        ),
        key(
            "lease",
            "\"15s\"",
            duration!(seconds(1), hours(1), worker.lease),
            "Other workers take over a worker's jobs if it shows no sign of life for this long. The jobs of a worker are held \
             for the time that its own configuration names, so the value can be changed worker by worker.",
        ),
        key(
            "max_deliveries",
            "5",
            integer!(1..=1000, worker.max_deliveries),
            "A job that was taken over from lost workers this many times probably crashes them. It fails as `crash_loop`.",
        ),
        key(
            "bulk_min_share",
            "10",
            integer!(0..=100, worker.bulk_min_share),
            "Percentage of the worker slots that bulk jobs may always use, however many interactive jobs wait. Counts the slots \
             that are allowed at the moment (see `worker.adaptive`).",
        ),
        key(
            "bulk_max_share",
            "50",
            integer!(1..=100, worker.bulk_max_share),
            "Maximum percentage of the worker slots for bulk jobs while interactive jobs arrive (at least one in the last 10 s). \
             When none arrive, bulk jobs may use all slots.",
        ),
        key(
            "adaptive",
            "true",
            boolean!(worker.adaptive),
            "If true, the number of calls at once shrinks when XCO would answer faster, or refuse fewer calls, with fewer of them. \
             It grows back, up to `worker.concurrency`.",
        ),
        key(
            "min_concurrency",
            "4",
            integer!(1..=4096, worker.min_concurrency),
            "Minimum number of worker slots that `worker.adaptive` leaves.",
        ),
        key(
            "breaker",
            "true",
            boolean!(worker.breaker),
            "If true, no jobs are taken while XCO fails completely, so that none of them spends an attempt. A few calls still \
             test whether XCO is back.",
        ),
    ],
};
