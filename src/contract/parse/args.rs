//! Validates the `args` of each job type.

use super::{
    faults::{Faults, Path, fields, required, text},
    formats, user,
};
use crate::contract::{Args, ConsentProof, Contact, JobType, VerificationCode, json::Node};

/// Validates `args` as those of `job_type`. Returns `None` if there is any fault.
pub(super) fn validate<'n>(
    job_type: JobType,
    node: &'n Node<'n>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Args> {
    match job_type {
        JobType::CheckUser | JobType::StartOtp => {
            let [email, phone] = fields(node, &["email", "phone_number"], path, faults)?;
            let contact = contact(email, phone, path, faults)?;
            Some(match job_type {
                JobType::StartOtp => Args::StartOtp { contact },
                _ => Args::CheckUser { contact },
            })
        }
        JobType::VerifyOtp => {
            let [email, phone, given] = fields(node, &["email", "phone_number", "verification_code"], path, faults)?;
            let contact = contact(email, phone, path, faults);
            let code = code(given, path, faults);
            Some(Args::VerifyOtp { contact: contact?, code: code? })
        }
        JobType::CreateUser => {
            let [reference, user] = fields(node, &["customer_reference", "user"], path, faults)?;
            let customer_reference = customer_reference(reference, path, faults);
            let at = path.key("user");
            let user = required(user, &at, faults).and_then(|user| user::validate(user, &at, faults));
            let user = user?;
            let contact = Contact::Email(user.email.clone());
            Some(Args::CreateUser { customer_reference: customer_reference?, contact, user: Box::new(user) })
        }
        JobType::FinalizeConsent => finalize_consent(node, path, faults),
    }
}

/// Accepts either a challenge, or a contact together with a code.
fn finalize_consent<'n>(node: &'n Node<'n>, path: &Path<'_>, faults: &mut Faults) -> Option<Args> {
    const NAMES: [&str; 5] =
        ["customer_reference", "consent_challenge_id", "email", "phone_number", "verification_code"];
    let [reference, challenge, email, phone, given] = fields(node, &NAMES, path, faults)?;
    let customer_reference = customer_reference(reference, path, faults);
    let proof = if challenge.is_some() {
        let at = path.key("consent_challenge_id");
        let challenge = text(challenge, &at, faults, formats::challenge_id);
        let beside: [(&str, _); 3] = [("email", email), ("phone_number", phone), ("verification_code", given)];
        for (name, _) in beside.iter().filter(|(_, node)| node.is_some()) {
            faults.add(&path.key(name), "must not stand beside `consent_challenge_id`");
        }
        challenge.map(ConsentProof::Challenge)
    } else if email.or(phone).or(given).is_some() {
        let contact = contact(email, phone, path, faults);
        let code = code(given, path, faults);
        contact.zip(code).map(|(contact, code)| ConsentProof::Code { contact, code })
    } else {
        faults.add(path, "needs `consent_challenge_id`, or `verification_code` with one of `email` and `phone_number`");
        None
    };
    Some(Args::FinalizeConsent { customer_reference: customer_reference?, proof: proof? })
}

fn customer_reference<'n>(
    node: Option<&'n Node<'n>>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<crate::contract::CustomerReference> {
    let at = path.key("customer_reference");
    text(required(node, &at, faults), &at, faults, formats::customer_reference)
}

fn code<'n>(node: Option<&'n Node<'n>>, path: &Path<'_>, faults: &mut Faults) -> Option<VerificationCode> {
    let at = path.key("verification_code");
    text(required(node, &at, faults), &at, faults, formats::verification_code)
}

/// Requires exactly one of `email` and `phone_number`.
fn contact<'n>(
    email: Option<&'n Node<'n>>,
    phone: Option<&'n Node<'n>>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Contact> {
    let (at_email, at_phone) = (path.key("email"), path.key("phone_number"));
    if email.is_none() && phone.is_none() {
        faults.add(path, "needs one of `email` and `phone_number`");
        return None;
    }
    let both = email.is_some() && phone.is_some();
    let email = text(email, &at_email, faults, formats::email);
    let phone = text(phone, &at_phone, faults, formats::phone_number);
    if both {
        faults.add(&at_email, "must not stand beside `phone_number`: give one of the two");
        faults.add(&at_phone, "must not stand beside `email`: give one of the two");
        return None;
    }
    email.map(Contact::Email).or_else(|| phone.map(Contact::Phone))
}
