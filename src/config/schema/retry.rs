//! `retry.*`

use super::field::{Field, Section, ValueKind, by_type, days, duration, hours, integer, key, ms, unset};

pub(super) static SECTION: Section = Section {
    name: "retry",
    text: "Delays between attempts are random, from zero to a bound that starts at `retry.base` and doubles up to `retry.cap`. A \
           429 does not count as an attempt. A key of one job type, such as `retry.start_otp.cap`, overrides the key of all.",
    keys: &[
        key("base", "\"500ms\"", duration!(ms(1), hours(1), some retry.base), "Upper bound of the first delay."),
        key("cap", "\"60s\"", duration!(ms(1), days(1), some retry.cap), "Upper bound of every delay."),
        unset(
            "max_attempts",
            integer!(1..=100, some retry.max_attempts),
            "Number of failed attempts after which a job of any type fails, instead of the defaults of the types.",
        ),
        key(
            "budget",
            "20",
            integer!(0..=1000, some retry.budget),
            "Maximum number of retries, as a percentage of first attempts. Beyond it the delays grow. `0` means no budget.",
        ),
        unset(
            "*.base",
            Field {
                kind: ValueKind::Duration(ms(1), hours(1)),
                set: |draft, job_type, input| {
                    draft.config.retry.types.entry(job_type).or_default().base =
                        Some(input.duration(ms(1)..=hours(1))?);
                    Ok(())
                },
            },
            "Upper bound of the first delay, for one job type. Default: `retry.base`.",
        ),
        unset(
            "*.cap",
            Field {
                kind: ValueKind::Duration(ms(1), days(1)),
                set: |draft, job_type, input| {
                    draft.config.retry.types.entry(job_type).or_default().cap = Some(input.duration(ms(1)..=days(1))?);
                    Ok(())
                },
            },
            "Upper bound of every delay, for one job type. Default: `retry.cap`.",
        ),
        by_type(
            "*.max_attempts",
            |job_type| job_type.facts().default_attempts,
            Field {
                kind: ValueKind::Integer(1, 100),
                set: |draft, job_type, input| {
                    draft.config.retry.types.entry(job_type).or_default().max_attempts = Some(input.integer(1..=100)?);
                    Ok(())
                },
            },
            "Number of failed attempts after which a job of this type fails. `retry.max_attempts` replaces these defaults.",
        ),
    ],
};
