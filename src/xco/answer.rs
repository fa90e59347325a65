//! Turns the body of a 2xx into an [`Answer`]. Pure.
//!
//! A body that cannot be understood leaves the effect of the call unknown, because the request was sent. The caller of
//! this module reports that as [`FailureKind::Timeout`](super::FailureKind::Timeout).

use super::{Answer, Call, number};
use crate::contract::JsonText;
use serde_json::{Value, json};

/// Whether the body of a 2xx decides if the call succeeded. For the other calls the status is enough.
pub(super) const fn needs_body(call: &Call<'_>) -> bool {
    !matches!(call, Call::StartOtp { .. } | Call::CreateConsent { .. })
}

/// Reads the answer to `call`. The error says which part was missing.
///
/// An empty 2xx to `CreateUser` (a 204) took effect: its answer is `{"customer_reference"}`, the known part of XCO's
/// answer. `VerifyOtp` needs the challenge but not the `user`: the customer's code is spent, so the challenge must not
/// be lost. A check depends on `exists` alone: a `token_count` that is absent or unreadable counts as 0. It is always a
/// number, because merchants' programs read it as one.
pub(super) fn parse(call: &Call<'_>, body: &[u8]) -> Result<Answer, &'static str> {
    match *call {
        Call::StartOtp { .. } => Ok(Answer::OtpSent),
        Call::CreateConsent { .. } => Ok(Answer::Consented),
        Call::CheckUser { .. } => {
            // No text of this answer is passed on, so the exact reader is needed only where the plain one fails.
            let answer = match serde_json::from_slice(body) {
                Ok(value @ Value::Object(_)) => value,
                _ => object(body)?.value(),
            };
            let exists = answer.get("exists").and_then(Value::as_bool).ok_or("no boolean `exists`")?;
            let token_count = answer.get("token_count").and_then(number::whole).unwrap_or(0);
            Ok(Answer::Exists { exists, token_count })
        }
        Call::CreateUser { customer_reference, .. } => {
            if body.trim_ascii().is_empty() {
                let known = json!({ "customer_reference": customer_reference.as_str() });
                return Ok(Answer::Created(known.into()));
            }
            object(body).map(Answer::Created)
        }
        Call::VerifyOtp { .. } => {
            let mut members = object(body)?.members();
            let challenge = match members.get("consent_challenge_id").map(JsonText::value) {
                Some(Value::String(challenge)) if !challenge.is_empty() && challenge.len() <= 256 => challenge,
                _ => return Err("no `consent_challenge_id`"),
            };
            let user = members.remove("user").filter(|user| user.get() != "null");
            Ok(Answer::Verified { consent_challenge_id: challenge, user })
        }
    }
}

fn object(body: &[u8]) -> Result<JsonText, &'static str> {
    JsonText::parse(body).and_then(|json| if json.is_object() { Ok(json) } else { Err("no JSON object") })
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
        for wrong in ["", "<html>", "[]", "{}", r#"{"exists":"true"}"#, r#"{"exists":1,"token_count":1}"#] {
            assert!(parse(&call, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_count_is_read_in_any_spelling_and_one_that_cannot_be_read_fails_no_check() {
        let contact = Contact::Email(Email::from_checked("a@example.com"));
        let call = Call::CheckUser { contact: &contact, caller: None };
        for (count, read) in [
            ("2", 2),
            ("2.0", 2),
            ("\"2\"", 2),
            ("\" 2.0 \"", 2),
            ("2e0", 2),
            ("18446744073709551615", u64::MAX),
            ("null", 0),
            ("-1", 0),
            ("-0", 0),
            ("2.5", 0),
            ("1e400", 0),
            ("12345678901234567890123", 0),
            ("\"\"", 0),
            ("\"many\"", 0),
            ("\"inf\"", 0),
            ("true", 0),
            ("[2]", 0),
        ] {
            for exists in [true, false] {
                let body = format!(r#"{{"exists":{exists},"token_count":{count}}}"#);
                assert_eq!(parse(&call, body.as_bytes()), Ok(Answer::Exists { exists, token_count: read }), "{body}");
            }
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
            Ok(Answer::Verified { consent_challenge_id: "c".to_owned(), user: Some(json!({"email": "x"}).into()) })
        );
        for without in [r#"{"consent_challenge_id":"c"}"#, r#"{"consent_challenge_id":"c","user":null}"#] {
            let verified = Answer::Verified { consent_challenge_id: "c".to_owned(), user: None };
            assert_eq!(parse(&call, without.as_bytes()), Ok(verified), "{without}");
        }
        let exact =
            br#"{"consent_challenge_id":"c","user":{"id":12345678901234567890123,"n":[1.10, -0, 1e400]},"x":1e400}"#;
        let Ok(Answer::Verified { user: Some(user), .. }) = parse(&call, exact) else { panic!("no profile") };
        assert_eq!(user.get(), r#"{"id":12345678901234567890123,"n":[1.10,-0,1e400]}"#);
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
        assert_eq!(parse(&call, whole.to_string().as_bytes()), Ok(Answer::Created(whole.into())));
        let exact = r#"{"xco_id":12345678901234567890123,"n":[1.10,-0,1e400],"a":1,"a":2}"#;
        let Ok(Answer::Created(answer)) = parse(&call, exact.as_bytes()) else { panic!("not understood") };
        assert_eq!(answer.get(), exact);
        assert_eq!(parse(&call, b" "), Ok(Answer::Created(json!({"customer_reference": "c1"}).into())));
        assert!(parse(&call, b"[]").is_err());
    }
}
