//! Taking codes out of what is kept: dead letters and problem documents.

/// The `job` of a dead letter: the job's JSON with every `verification_code` removed, wherever it stood; for input that
/// is not JSON, its first 4 KiB with codes masked.
pub fn dead_letter_job(bytes: &[u8]) -> String {
    let _ = bytes;
    todo!("contract helper")
}

/// Masks every occurrence of `code` in the strings of a JSON value (an upstream's problem document may echo it).
pub fn redact_code(value: &mut serde_json::Value, code: &str) {
    let _ = (value, code);
    todo!("contract helper")
}
