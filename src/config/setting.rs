//! One value of one key, checked without any other source.

use super::{
    schema::{ConfigDraft, find},
    value::{Input, Problems, Value},
};

/// Checks a value as the configuration would check it in the environment: type and bounds.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn check_value(key: &str, text: &str) -> Result<(), String> {
    let Some(known) = find(key) else { return Err("unknown key".to_owned()) };
    let value = Value::Loose(text.to_owned());
    let input = Input { value: &value, secret: known.secret };
    known.apply(&mut ConfigDraft::default(), &input).map_err(|Problems(details)| details.join("; "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_has_the_bounds_of_its_key() {
        for (key, text) in [("limits.total.rate", "20/s"), ("limits.caller.burst", "7"), ("worker.concurrency", "4096")]
        {
            assert_eq!(check_value(key, text), Ok(()), "{key}");
        }
        for (key, text, said) in [
            ("limits.total.rate", "20", "10/s"),
            ("limits.caller.burst", "0", "from 1 to 1000000"),
            ("worker.concurrency", "4097", "from 1 to 4096"),
            ("limits.all.rate", "1/s", "unknown key"),
        ] {
            let fault = check_value(key, text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
