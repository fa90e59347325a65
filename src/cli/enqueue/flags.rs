//! A job from flags.

use super::args::EnqueueArgs;
use crate::contract::Fault;
use serde_json::{Map, Value};

/// The job as its JSON object; what it lacks or has too much of is for validation to say.
pub(super) fn job(args: &EnqueueArgs, id: Option<String>) -> Value {
    let mut job = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        job.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text = |value: &Option<String>| value.clone().map(Value::from);
    // Where the arguments name the customer, the job need not.
    let in_args = args.job_type.is_some_and(|job_type| job_type.facts().has_reference);
    set("type", args.job_type.map(|job_type| job_type.as_str().into()));
    set("id", id.map(Value::from));
    set("caller_id", text(&args.caller_id));
    set("customer_reference", text(&args.customer_reference).filter(|_| !in_args));
    set("merchant_id", text(&args.merchant_id));
    set("ttl_ms", args.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into()));
    set("run_at", text(&args.run_at));
    set("max_attempts", args.max_attempts.map(Value::from));
    set("batch", text(&args.batch));
    let meta: Map<_, _> = args.meta.iter().map(|entry| (entry.key.clone(), entry.value.as_str().into())).collect();
    set("meta", (!meta.is_empty()).then_some(Value::Object(meta)));
    set("next", args.next.as_ref().map(|next| next.0.clone()));
    set("reply", (args.reply || args.wait.is_some()).then_some(Value::Bool(true)));

    let mut arguments = Map::new();
    for (name, value) in [
        ("customer_reference", text(&args.customer_reference).filter(|_| in_args)),
        ("email", text(&args.email)),
        ("phone_number", text(&args.phone_number)),
        ("verification_code", text(&args.code)),
        ("consent_challenge_id", text(&args.consent_challenge_id)),
        ("user", args.user.as_ref().map(|user| user.0.clone())),
    ] {
        arguments.extend(value.map(|value| (name.to_owned(), value)));
    }
    set("args", Some(Value::Object(arguments)));
    Value::Object(job)
}

/// The members of a job, and the flags that set them.
const FLAGS: [(&str, &str); 17] = [
    ("/type", "--type"),
    ("/id", "--id"),
    ("/caller_id", "--caller-id"),
    ("/customer_reference", "--customer-reference"),
    ("/merchant_id", "--merchant-id"),
    ("/ttl_ms", "--ttl"),
    ("/run_at", "--run-at"),
    ("/max_attempts", "--max-attempts"),
    ("/batch", "--batch"),
    ("/meta", "--meta"),
    ("/next", "--next"),
    ("/reply", "--reply"),
    ("/args/email", "--email"),
    ("/args/phone_number", "--phone-number"),
    ("/args/verification_code", "--code"),
    ("/args/consent_challenge_id", "--consent-challenge-id"),
    ("/args/user", "--user"),
];

/// A fault of a job from flags, in the words of the flags: `--code: is required`.
pub(super) fn in_words(fault: &Fault) -> String {
    let pointer = fault
        .pointer
        .strip_prefix("/args/customer_reference")
        .map_or_else(|| fault.pointer.clone(), |below| format!("/customer_reference{below}"));
    let set_by = FLAGS.iter().find_map(|(member, flag)| Some((flag, pointer.strip_prefix(member)?)));
    let place = match set_by {
        Some((flag, "")) => (*flag).to_owned(),
        Some((flag, below)) if below.starts_with('/') => format!("{flag}, at {below}"),
        _ if matches!(pointer.as_str(), "" | "/args") => "the flags".to_owned(),
        _ => pointer,
    };
    let detail = FLAGS.iter().fold(fault.detail.clone(), |detail, (member, flag)| {
        let name = member.rsplit('/').next().unwrap_or(member);
        detail.replace(&format!("`{name}`"), &format!("`{flag}`"))
    });
    format!("{place}: {detail}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use serde_json::json;

    fn parse(args: &[&str]) -> Value {
        let all = ["xco-worker", "enqueue"].iter().chain(args);
        let Command::Enqueue(args) = Cli::try_parse_from(all).ok().unwrap().command else { panic!("enqueue") };
        job(&args, args.id.clone())
    }

    #[test]
    fn faults_name_the_flags() {
        for (pointer, detail, wanted) in [
            ("/args/verification_code", "is required", "--code: is required"),
            ("/ttl_ms", "must be 1 to 9", "--ttl: must be 1 to 9"),
            ("/args/customer_reference", "is required", "--customer-reference: is required"),
            ("/args/user/email", "is required", "--user, at /email: is required"),
            ("/next/foo", "is no outcome", "--next, at /foo: is no outcome"),
            (
                "/args",
                "needs one of `email` and `phone_number`",
                "the flags: needs one of `--email` and `--phone-number`",
            ),
            (
                "/caller_id",
                "the type needs `caller_id`, or `customer_reference` in its place",
                "--caller-id: the type needs `--caller-id`, or `--customer-reference` in its place",
            ),
            ("/idle", "is unknown", "/idle: is unknown"),
        ] {
            let fault = Fault { pointer: pointer.to_owned(), detail: detail.to_owned() };
            assert_eq!(in_words(&fault), wanted);
        }
    }

    #[test]
    fn flags_become_the_contracts_fields() {
        let given = parse(&[
            "--type",
            "CheckUser",
            "--email",
            "a@example.com",
            "--caller-id",
            "c",
            "--ttl",
            "2m",
            "--meta",
            "k=v",
            "--customer-reference",
            "r",
            "--id",
            "i",
            "--wait",
            "1s",
        ]);
        assert_eq!(
            given,
            json!({"type": "CheckUser", "id": "i", "caller_id": "c", "customer_reference": "r", "ttl_ms": 120_000,
                "meta": {"k": "v"}, "reply": true, "args": {"email": "a@example.com"}})
        );
        let given =
            parse(&["--type", "CreateUser", "--customer-reference", "r", "--user", r#"{"email": "a@b.example"}"#]);
        assert_eq!(
            given,
            json!({"type": "CreateUser", "args": {"customer_reference": "r", "user": {"email": "a@b.example"}}})
        );
    }
}
