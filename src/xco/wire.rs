//! Turns a [`Call`] into an HTTP request: method, URL, body. Pure.

use super::{Call, route::Route};
use crate::contract::{CallerId, Contact, CustomerReference, MerchantId, NewUser, VerificationCode};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use url::Url;

/// Characters that are percent-encoded: all but RFC 3986's unreserved ones. This is right for a path segment and for a
/// query value (the `+` of a phone number becomes `%2B`, a space `%20`, never `+`).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request without its headers. Has no `Debug`, because URL and body hold personal data.
pub(super) struct WireRequest {
    pub(super) route: Route,
    pub(super) url: Url,
    /// JSON body; `None` for a GET.
    pub(super) body: Option<Bytes>,
}

/// Why a call cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsendable {
    /// The customer reference is `.` or `..`. URLs remove such a segment, even percent-encoded, and the request would
    /// reach another resource.
    DotSegment,
    /// The body could not be serialised.
    Body,
}

#[derive(Serialize)]
struct CreateBody<'a> {
    customer_reference: &'a CustomerReference,
    user: &'a NewUser,
}

#[derive(Serialize)]
struct StartBody<'a> {
    #[serde(flatten)]
    contact: &'a Contact,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_id: Option<&'a CallerId>,
}

#[derive(Serialize)]
struct VerifyBody<'a> {
    #[serde(flatten)]
    contact: &'a Contact,
    verification_code: &'a VerificationCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_id: Option<&'a CallerId>,
}

#[derive(Serialize)]
struct ConsentBody<'a> {
    consent_challenge_id: &'a str,
}

/// Builds the request of a call. A path in `base` is kept in front.
pub(super) fn request(base: &Url, call: &Call<'_>) -> Result<WireRequest, Unsendable> {
    match *call {
        Call::CheckUser { contact, caller } => {
            let mut url = with_path(base, "/v1/users/exists");
            url.set_query(Some(&exists_query(contact, caller)));
            Ok(WireRequest { route: Route::Exists, url, body: None })
        }
        Call::CreateUser { merchant, customer_reference, user } => {
            post(Route::Create, with_path(base, &users_path(merchant)), &CreateBody { customer_reference, user })
        }
        Call::StartOtp { merchant, contact, caller } => {
            let path = format!("{}/passwordless/start", users_path(merchant));
            post(Route::Start, with_path(base, &path), &StartBody { contact, caller_id: caller })
        }
        Call::VerifyOtp { merchant, contact, code, caller } => {
            let path = format!("{}/passwordless/verify", users_path(merchant));
            let body = VerifyBody { contact, verification_code: code, caller_id: caller };
            post(Route::Verify, with_path(base, &path), &body)
        }
        Call::CreateConsent { merchant, customer_reference, challenge_id } => {
            let reference = customer_reference.as_str();
            if matches!(reference, "." | "..") {
                return Err(Unsendable::DotSegment);
            }
            let path = format!("{}/{}/consents", users_path(merchant), encode(reference));
            post(Route::Consent, with_path(base, &path), &ConsentBody { consent_challenge_id: challenge_id })
        }
    }
}

fn exists_query(contact: &Contact, caller: Option<&CallerId>) -> String {
    let mut query = match contact {
        Contact::Email(email) => format!("email={}", encode(email.expose())),
        Contact::Phone(phone) => format!("phone_number={}", encode(phone.expose())),
    };
    if let Some(caller) = caller {
        query.push_str("&caller_id=");
        query.extend(encode(caller.as_str()));
    }
    query
}

fn users_path(merchant: &MerchantId) -> String {
    format!("/v1/merchants/{}/users", encode(merchant.as_str()))
}

fn encode(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let prefix = base.path().trim_end_matches('/');
    // `set_path` does not change percent-escapes.
    url.set_path(&format!("{prefix}{path}"));
    url
}

fn post(route: Route, url: Url, body: &impl Serialize) -> Result<WireRequest, Unsendable> {
    let body = serde_json::to_vec(body).map_err(|_| Unsendable::Body)?;
    Ok(WireRequest { route, url, body: Some(Bytes::from(body)) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::contract::{Email, PhoneNumber};
    use serde_json::{Value, json};

    fn base() -> Url {
        Url::parse("https://xco.example").unwrap()
    }

    fn merchant() -> MerchantId {
        MerchantId::from_checked("6f9619ff-8b86-4011-b42d-00c04fc964ff")
    }

    fn consent_url(base: &Url, reference: &str) -> Result<String, Unsendable> {
        let (merchant, customer_reference) = (merchant(), CustomerReference::from_checked(reference));
        let call =
            Call::CreateConsent { merchant: &merchant, customer_reference: &customer_reference, challenge_id: "c" };
        request(base, &call).map(|wire| wire.url.to_string())
    }

    fn body(wire: &WireRequest) -> Value {
        serde_json::from_slice(wire.body.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_phone_number_keeps_its_plus() {
        let contact = Contact::Phone(PhoneNumber::from_checked("+33612345678"));
        let caller = CallerId::from_checked("2001:db8::1 &x=é");
        let wire = request(&base(), &Call::CheckUser { contact: &contact, caller: Some(&caller) }).unwrap();
        assert_eq!(
            wire.url.as_str(),
            "https://xco.example/v1/users/exists?phone_number=%2B33612345678&caller_id=2001%3Adb8%3A%3A1%20%26x%3D%C3%A9"
        );
        assert!(wire.body.is_none());
    }

    #[test]
    fn no_caller_no_parameter() {
        let contact = Contact::Email(Email::from_checked("a+b@example.com"));
        let wire = request(&base(), &Call::CheckUser { contact: &contact, caller: None }).unwrap();
        assert_eq!(wire.url.query(), Some("email=a%2Bb%40example.com"));
    }

    #[test]
    fn a_customer_reference_is_one_segment() {
        let prefix = "https://xco.example/v1/merchants/6f9619ff-8b86-4011-b42d-00c04fc964ff/users/";
        for (reference, encoded) in [
            ("customer_12345", "customer_12345"),
            ("a/b", "a%2Fb"),
            ("50%", "50%25"),
            ("%2F", "%252F"),
            ("a b?c#d", "a%20b%3Fc%23d"),
            ("é", "%C3%A9"),
            ("...", "..."),
            ("../x", "..%2Fx"),
            ("a\\b", "a%5Cb"),
            ("%2e%2e", "%252e%252e"),
        ] {
            assert_eq!(consent_url(&base(), reference).unwrap(), format!("{prefix}{encoded}/consents"), "{reference}");
        }
    }

    #[test]
    fn a_reference_that_urls_fold_away_is_not_sent() {
        assert_eq!(consent_url(&base(), "."), Err(Unsendable::DotSegment));
        assert_eq!(consent_url(&base(), ".."), Err(Unsendable::DotSegment));
    }

    #[test]
    fn a_base_path_stays_in_front() {
        for base in ["https://xco.example/api", "https://xco.example/api/"] {
            let url = consent_url(&Url::parse(base).unwrap(), "x").unwrap();
            assert!(url.starts_with("https://xco.example/api/v1/merchants/"), "{url}");
        }
    }

    #[test]
    fn caller_id_is_a_body_field_of_start_and_verify_only() {
        let merchant = merchant();
        let contact = Contact::Email(Email::from_checked("a@example.com"));
        let caller = CallerId::from_checked("198.51.100.7");
        let code = VerificationCode::from_checked("123456");
        let start = Call::StartOtp { merchant: &merchant, contact: &contact, caller: Some(&caller) };
        let wire = request(&base(), &start).unwrap();
        assert_eq!(body(&wire), json!({"email": "a@example.com", "caller_id": "198.51.100.7"}));
        assert!(wire.url.path().ends_with("/users/passwordless/start"));

        let verify = Call::VerifyOtp { merchant: &merchant, contact: &contact, code: &code, caller: Some(&caller) };
        let wire = request(&base(), &verify).unwrap();
        assert_eq!(
            body(&wire),
            json!({"email": "a@example.com", "verification_code": "123456", "caller_id": "198.51.100.7"})
        );
        let start = Call::StartOtp { merchant: &merchant, contact: &contact, caller: None };
        assert_eq!(body(&request(&base(), &start).unwrap()), json!({"email": "a@example.com"}));
    }

    #[test]
    fn create_sends_the_user_as_it_is() {
        let (merchant, customer_reference) = (merchant(), CustomerReference::from_checked("c/1"));
        let user = NewUser {
            email: Email::from_checked("a@example.com"),
            phone_number: Some(PhoneNumber::from_checked("+33612345678")),
            first_name: None,
            last_name: None,
            gender: None,
            birthdate: None,
            addresses: Vec::new(),
        };
        let call = Call::CreateUser { merchant: &merchant, customer_reference: &customer_reference, user: &user };
        let wire = request(&base(), &call).unwrap();
        assert_eq!(
            body(&wire),
            json!({"customer_reference": "c/1", "user": {"email": "a@example.com", "phone_number": "+33612345678"}})
        );
    }
}
