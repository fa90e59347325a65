//! `queue.*` and `completions.*`

use super::field::{Field, Section, ValueKind, by_type, days, duration, integer, key, minutes, ms, seconds};

pub(super) static QUEUE: Section = Section {
    name: "queue",
    text: "",
    keys: &[
        key(
            "dedupe_window",
            "\"1h\"",
            duration!(seconds(1), days(30), queue.dedupe_window),
            "A job with the same `id` as one that was enqueued less than this earlier is a duplicate, and is dropped.",
        ),
        key(
            "index_retention",
            "\"0s\"",
            duration!(seconds(0), days(365), queue.index_retention),
            "How long the end of a job can be looked up by the job's `id`, from when the job was enqueued. An `id` is kept during \
             `queue.dedupe_window` in any case. Each takes about 135 bytes of Redis's memory.",
        ),
        by_type(
            "ttl.*",
            |job_type| job_type.facts().default_ttl,
            Field {
                kind: ValueKind::Other("duration, 1ms to 30d, or `off`"),
                set: |draft, job_type, input| {
                    if input.text().is_ok_and(|text| text == "off") {
                        draft.config.queue.ttl.remove(&job_type);
                    } else {
                        draft.config.queue.ttl.insert(job_type, input.duration(ms(1)..=days(30))?);
                    }
                    Ok(())
                },
            },
            "Deadline of interactive jobs that name no `ttl_ms`, from enqueueing or from `run_at`, whichever is later. `off` means \
             no deadline.",
        ),
        key(
            "reply_ttl",
            "\"5m\"",
            duration!(seconds(1), days(1), queue.reply_ttl),
            "How long a reply is kept if no program reads it.",
        ),
        key(
            "dead_retention",
            "\"30d\"",
            duration!(minutes(1), days(3650), queue.dead_retention),
            "How long dead letters are kept.",
        ),
        key(
            "max_pending",
            "1000000",
            integer!(0..=1_000_000_000, queue.max_pending),
            "Number of jobs in a lane, over all partitions and without delayed jobs, from which the lane counts as overloaded. \
             Workers then report it in log and metrics, and producers that can refuse jobs refuse them. A plain `XADD` is never \
             refused. `0` means no bound. A waiting job takes about its own size plus 80 bytes of Redis's memory.",
        ),
    ],
};

pub(super) static COMPLETIONS: Section = Section {
    name: "completions",
    text: "",
    keys: &[
        key(
            "retention",
            "\"24h\"",
            duration!(seconds(1), days(365), completions.retention),
            "How long completions are kept in their stream.",
        ),
        key(
            "max_bytes",
            "1073741824",
            integer!(1_048_576..=1 << 40, completions.max_bytes),
            "Maximum size of all kept completions, over all partitions. The oldest are deleted first.",
        ),
    ],
};
