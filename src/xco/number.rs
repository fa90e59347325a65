//! Whole numbers as servers write them: `2`, `2.0`, `"2"`, `"2.0"`. Pure.

use serde_json::Value;

/// The number in `value`, if it is finite.
pub(super) fn finite(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// The non-negative whole number in `value`, if it can be represented exactly.
pub(super) fn whole(value: &Value) -> Option<u64> {
    let exact = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    exact.or_else(|| {
        // Above this, an `f64` cannot represent every whole number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = finite(value).filter(|number| (0.0..=EXACT).contains(number) && number.fract() == 0.0)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        Some(number as u64)
    })
}
