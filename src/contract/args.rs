//! The validated arguments of the five job types.

use super::{CustomerReference, Email, PersonalText, PhoneNumber, VerificationCode};
use serde::Serialize;

/// A customer's contact: an email address or a phone number, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Contact {
    /// The `email` field of a job's arguments.
    #[serde(rename = "email")]
    Email(Email),
    /// The `phone_number` field of a job's arguments.
    #[serde(rename = "phone_number")]
    Phone(PhoneNumber),
}

/// XCO's `gender` field of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gender {
    /// `male`
    Male,
    /// `female`
    Female,
    /// `other`
    Other,
}

/// XCO's `address_type` field of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressType {
    /// `billing`
    Billing,
    /// `delivery`
    Delivery,
}

/// One of a user's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Whether the address is for billing or delivery. `None` if the merchant gave no type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_type: Option<AddressType>,
    /// Street and house number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street_address: Option<PersonalText>,
    /// Addition to the street: flat, floor, entrance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_complement: Option<PersonalText>,
    /// Town or city.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<PersonalText>,
    /// Postal code, as the merchant wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<PersonalText>,
    /// Country name in XCO's spelling, such as `FRANCE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<PersonalText>,
}

/// XCO's `user` object. Only `email` is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewUser {
    /// The only field that XCO requires.
    pub email: Email,
    /// Phone number in E.164 form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<PhoneNumber>,
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<PersonalText>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<PersonalText>,
    /// Gender in XCO's terms. `None` if the merchant gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    /// Date of birth as `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birthdate: Option<PersonalText>,
    /// Billing and delivery addresses, in the order of the job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
}

/// The arguments of a job, one variant per job type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Ask XCO whether it knows the customer.
    CheckUser {
        /// The contact to look up.
        contact: Contact,
    },
    /// Create the user at XCO. This also records the merchant's consent.
    CreateUser {
        /// The merchant's own identifier of the customer.
        customer_reference: CustomerReference,
        /// The user's email as a contact. If a creation is in doubt, this contact is looked up.
        contact: Contact,
        /// XCO's `user` object, in a box because it is by far the largest variant.
        user: Box<NewUser>,
    },
    /// Send the customer a one-time code.
    StartOtp {
        /// The contact that receives the code.
        contact: Contact,
    },
    /// Verify the code that the customer typed. A code can be verified only once.
    VerifyOtp {
        /// The contact that received the code.
        contact: Contact,
        /// The code that the customer typed.
        code: VerificationCode,
    },
    /// Link an existing XCO user to the merchant.
    FinalizeConsent {
        /// The merchant's own identifier of the customer.
        customer_reference: CustomerReference,
        /// The proof that the customer agreed.
        proof: ConsentProof,
    },
}

/// The proof of agreement in a `FinalizeConsent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentProof {
    /// The challenge (a UUID) that XCO returned to an earlier `VerifyOtp`.
    Challenge(String),
    /// A code that this job must verify first.
    Code {
        /// The contact that received the code.
        contact: Contact,
        /// The code that the customer typed.
        code: VerificationCode,
    },
}

impl Args {
    /// Returns the customer reference inside the arguments, for the types that have one.
    pub fn customer_reference(&self) -> Option<&CustomerReference> {
        match self {
            Self::CreateUser { customer_reference, .. } | Self::FinalizeConsent { customer_reference, .. } => {
                Some(customer_reference)
            }
            Self::CheckUser { .. } | Self::StartOtp { .. } | Self::VerifyOtp { .. } => None,
        }
    }

    /// Returns the code in these arguments, if there is one.
    pub fn code(&self) -> Option<&VerificationCode> {
        match self {
            Self::VerifyOtp { code, .. } | Self::FinalizeConsent { proof: ConsentProof::Code { code, .. }, .. } => {
                Some(code)
            }
            _ => None,
        }
    }
}
