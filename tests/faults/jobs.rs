//! Jobs as a merchant writes them. Each has its own customer, named after the job's id.

use serde_json::{Value, json};
use xco_worker::sandbox::{NewSandboxUser, Sandbox};

/// Email address of the customer of job `id`.
pub(crate) fn email(id: &str) -> String {
    // A child's id has a slash, which an address must not have.
    format!("{}@example.com", id.replace('/', "."))
}

/// Gives the customer of `id` an account.
pub(crate) fn seed(sandbox: &Sandbox, id: &str) {
    sandbox.seed_user(&NewSandboxUser { email: email(id), ..NewSandboxUser::default() });
}

pub(crate) fn start(id: &str) -> Value {
    json!({"id": id, "type": "StartOtp", "caller_id": id, "args": {"email": email(id)}})
}

pub(crate) fn verify(id: &str, customer: &str, code: &str) -> Value {
    json!({"id": id, "type": "VerifyOtp", "caller_id": id,
        "args": {"email": email(customer), "verification_code": code}})
}

pub(crate) fn finalize(id: &str, customer: &str, code: &str) -> Value {
    json!({"id": id, "type": "FinalizeConsent", "caller_id": id,
        "args": {"customer_reference": id, "email": email(customer), "verification_code": code}})
}

pub(crate) fn create(id: &str) -> Value {
    json!({"id": id, "type": "CreateUser", "caller_id": id,
        "args": {"customer_reference": id, "user": {"email": email(id)}}})
}

/// `n` jobs of three types, with ids `<prefix>-<n>`.
pub(crate) fn mixed(sandbox: &Sandbox, prefix: &str, n: usize) -> Vec<Value> {
    (0..n)
        .map(|n| {
            let id = format!("{prefix}-{n}");
            match n % 3 {
                0 => super::support::check(&id, &id),
                1 => {
                    seed(sandbox, &id);
                    start(&id)
                }
                _ => create(&id),
            }
        })
        .collect()
}

pub(crate) fn ids_of(jobs: &[Value]) -> std::collections::BTreeSet<String> {
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}
