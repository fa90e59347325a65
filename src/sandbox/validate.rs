//! Validates requests strictly, so that a mistake of a client becomes visible.

use serde_json::{Map, Value};

/// Faults found so far: pointer and detail.
pub(super) type Faults = Vec<(String, String)>;

/// Reports the members that are not in `known`.
pub(super) fn only(object: &Map<String, Value>, at: &str, known: &[&str], faults: &mut Faults) {
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.push((format!("{at}/{name}"), "unknown property".to_owned()));
    }
}

/// Requires exactly one of `email` and `phone_number`.
pub(super) fn contact<'a>(object: &'a Map<String, Value>, faults: &mut Faults) -> Option<&'a str> {
    match (object.get("email"), object.get("phone_number")) {
        (Some(email), None) => text(Some(email), "/email", is_email, faults),
        (None, Some(phone)) => text(Some(phone), "/phone_number", is_e164, faults),
        _ => {
            faults.push((String::new(), "exactly one of email and phone_number".to_owned()));
            None
        }
    }
}

/// Requires a string that satisfies `is`.
pub(super) fn text<'a>(
    value: Option<&'a Value>,
    pointer: &str,
    is: impl Fn(&str) -> bool,
    faults: &mut Faults,
) -> Option<&'a str> {
    let found = value.and_then(Value::as_str).filter(|text| is(text));
    if found.is_none() {
        faults.push((pointer.to_owned(), "missing or invalid".to_owned()));
    }
    found
}

/// Whether the text has a sensible length.
pub(super) fn is_filled(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024
}

/// Checks XCO's `user` object and returns its email address if that is valid.
pub(super) fn user<'a>(value: Option<&'a Value>, faults: &mut Faults) -> Option<&'a str> {
    const KNOWN: [&str; 7] = ["email", "phone_number", "first_name", "last_name", "gender", "birthdate", "addresses"];
    let Some(user) = value.and_then(Value::as_object) else {
        faults.push(("/user".to_owned(), "missing or no object".to_owned()));
        return None;
    };
    only(user, "/user", &KNOWN, faults);
    let email = text(user.get("email"), "/user/email", is_email, faults);
    let mut optional = |name: &str, is: fn(&str) -> bool| {
        if user.contains_key(name) {
            text(user.get(name), &format!("/user/{name}"), is, faults);
        }
    };
    optional("phone_number", is_e164);
    optional("first_name", is_filled);
    optional("last_name", is_filled);
    optional("gender", |gender| matches!(gender, "male" | "female" | "other"));
    optional("birthdate", |date| date.parse::<jiff::civil::Date>().is_ok() && date.len() == 10);
    addresses(user.get("addresses"), faults);
    email
}

fn addresses(value: Option<&Value>, faults: &mut Faults) {
    const KNOWN: [&str; 6] =
        ["address_type", "street_address", "address_complement", "locality", "postal_code", "country"];
    let Some(value) = value else { return };
    let Some(list) = value.as_array() else {
        faults.push(("/user/addresses".to_owned(), "no array".to_owned()));
        return;
    };
    for (index, address) in list.iter().enumerate() {
        let at = format!("/user/addresses/{index}");
        let Some(address) = address.as_object() else {
            faults.push((at, "no object".to_owned()));
            continue;
        };
        only(address, &at, &KNOWN, faults);
        for (name, value) in address {
            let is = |text: &str| {
                if name == "address_type" { matches!(text, "billing" | "delivery") } else { is_filled(text) }
            };
            text(Some(value), &format!("{at}/{name}"), is, faults);
        }
    }
}

fn is_email(text: &str) -> bool {
    email_address::EmailAddress::is_valid(text)
}

fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or("");
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use serde_json::json;

    fn pointers(value: &Value) -> Vec<String> {
        let mut faults = Faults::new();
        user(Some(value), &mut faults);
        faults.into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn users() {
        let whole = json!({
            "email": "a@example.com", "phone_number": "+33612345678", "first_name": "A", "gender": "other",
            "birthdate": "1990-01-15", "addresses": [{"address_type": "billing", "country": "FRANCE"}],
        });
        assert!(pointers(&whole).is_empty());
        let wrong = json!({
            "phone_number": "0612345678", "gender": "x", "birthdate": "1990-13-15", "nick": 1,
            "addresses": [{"address_type": "home"}, 7],
        });
        assert_eq!(
            pointers(&wrong),
            [
                "/user/nick",
                "/user/email",
                "/user/phone_number",
                "/user/gender",
                "/user/birthdate",
                "/user/addresses/0/address_type",
                "/user/addresses/1"
            ]
        );
    }

    #[test]
    fn one_contact() {
        let mut faults = Faults::new();
        let both = json!({"email": "a@example.com", "phone_number": "+33612345678"});
        assert_eq!(contact(both.as_object().unwrap(), &mut faults), None);
        assert_eq!(faults.len(), 1);
        // What a client sends that forgets to encode `+` in a query.
        let spaced = json!({"phone_number": " 33612345678"});
        assert_eq!(contact(spaced.as_object().unwrap(), &mut faults), None);
    }
}
