//! All sections of the configuration.

use super::{faces, field::Section, limits, queue, redis, retry, worker, xco};

/// All sections, in the order of the reference file.
pub(super) static SECTIONS: [&Section; 10] = [
    &redis::SECTION,
    &xco::SECTION,
    &worker::SECTION,
    &limits::SECTION,
    &retry::SECTION,
    &queue::QUEUE,
    &queue::COMPLETIONS,
    &faces::HTTP,
    &faces::GATEWAY,
    &faces::TELEMETRY,
];
