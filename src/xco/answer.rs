//! The body of a 2xx → [`Answer`]. Pure.
//!
//! An answer that cannot be understood came after the request was sent: the effect is unknown
//! ([`FailureKind::Timeout`](super::FailureKind::Timeout)), and the caller of this module says so.

use super::{Answer, Call};
use serde_json::{Value, json};

/// What of a 2xx answer is needed for success.
pub(super) const fn needs_body(call: &Call<'_>) -> bool {
    !matches!(call, Call::StartOtp { .. } | Call::CreateConsent { .. })
}

/// The answer to `call`, or what was expected of it.
///
/// A `CreateUser` whose 2xx has an empty body (a 204) did take effect: its answer is `{"customer_reference"}`, the part
/// of XCO's answer that is known. `VerifyOtp` without a `user` answers `null` for it: the challenge is what counts, and
/// the code that bought it is spent.
pub(super) fn parse(call: &Call<'_>, body: &[u8]) -> Result<Answer, &'static str> {
    match *call {
        Call::StartOtp { .. } => Ok(Answer::OtpSent),
        Call::CreateConsent { .. } => Ok(Answer::Consented),
        Call::CheckUser { .. } => {
            let answer = object(body)?;
            let exists = answer.get("exists").and_then(Value::as_bool).ok_or("no boolean `exists`")?;
            let token_count = match answer.get("token_count") {
                None | Some(Value::Null) => 0,
                Some(count) => count.as_u64().ok_or("`token_count` is no count")?,
            };
            Ok(Answer::Exists { exists, token_count })
        }
        Call::CreateUser { customer_reference, .. } => {
            if body.trim_ascii().is_empty() {
                return Ok(Answer::Created(json!({ "customer_reference": customer_reference.as_str() })));
            }
            object(body).map(Answer::Created)
        }
        Call::VerifyOtp { .. } => {
            let mut answer = object(body)?;
            let challenge = match answer.get("consent_challenge_id") {
                Some(Value::String(challenge)) if !challenge.is_empty() && challenge.len() <= 256 => challenge.clone(),
                _ => return Err("no `consent_challenge_id`"),
            };
            let user = answer.get_mut("user").map_or(Value::Null, Value::take);
            Ok(Answer::Verified { consent_challenge_id: challenge, user })
        }
    }
}

fn object(body: &[u8]) -> Result<Value, &'static str> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("no JSON object"),
        Err(_) => Err("no JSON"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::contract::{Contact, CustomerReference, Email, MerchantId, NewUser, VerificationCode};

    #[test]
    fn exists_needs_its_shape() {
        let contact = Contact::Email(Email::from_checked("a@example.com"));
        let call = Call::CheckUser { contact: &contact, caller: None };
        assert_eq!(
            parse(&call, br#"{"exists":true,"token_count":2,"new":1}"#),
            Ok(Answer::Exists { exists: true, token_count: 2 })
        );
        assert_eq!(parse(&call, br#"{"exists":false}"#), Ok(Answer::Exists { exists: false, token_count: 0 }));
        for wrong in ["", "<html>", "[]", "{}", r#"{"exists":"true"}"#, r#"{"exists":true,"token_count":-1}"#] {
            assert!(parse(&call, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn verify_needs_the_challenge() {
        let merchant = MerchantId::from_checked("m");
        let contact = Contact::Email(Email::from_checked("a@example.com"));
        let code = VerificationCode::from_checked("1");
        let call = Call::VerifyOtp { merchant: &merchant, contact: &contact, code: &code, caller: None };
        assert_eq!(
            parse(&call, br#"{"consent_challenge_id":"c","user":{"email":"x"}}"#),
            Ok(Answer::Verified { consent_challenge_id: "c".to_owned(), user: json!({"email": "x"}) })
        );
        assert!(parse(&call, br#"{"consent_challenge_id":"c"}"#).is_ok());
        for wrong in ["{}", r#"{"consent_challenge_id":""}"#, r#"{"consent_challenge_id":7}"#, ""] {
            assert!(parse(&call, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn created_passes_the_whole_answer_through() {
        let (merchant, reference) = (MerchantId::from_checked("m"), CustomerReference::from_checked("c1"));
        let user = NewUser {
            email: Email::from_checked("a@example.com"),
            phone_number: None,
            first_name: None,
            last_name: None,
            gender: None,
            birthdate: None,
            addresses: Vec::new(),
        };
        let call = Call::CreateUser { merchant: &merchant, customer_reference: &reference, user: &user };
        let whole = json!({"customer_reference": "c1", "user": {"email": "a@example.com"}, "extra": [1]});
        assert_eq!(parse(&call, whole.to_string().as_bytes()), Ok(Answer::Created(whole)));
        assert_eq!(parse(&call, b" "), Ok(Answer::Created(json!({"customer_reference": "c1"}))));
        assert!(parse(&call, b"[]").is_err());
    }
}
