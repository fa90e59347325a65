//! The arguments of the five job types, validated.

use super::{CustomerReference, Email, PersonalText, PhoneNumber, VerificationCode};
use serde::Serialize;

/// How a customer is reached: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Contact {
    /// By email.
    #[serde(rename = "email")]
    Email(Email),
    /// By phone.
    #[serde(rename = "phone_number")]
    Phone(PhoneNumber),
}

/// XCO's `gender`.
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

/// XCO's `address_type`.
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
    /// Billing or delivery, where the merchant said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_type: Option<AddressType>,
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street_address: Option<PersonalText>,
    /// Flat, floor, entrance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_complement: Option<PersonalText>,
    /// Town.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<PersonalText>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<PersonalText>,
    /// Country, as XCO writes it (`FRANCE`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<PersonalText>,
}

/// XCO's `user` object; `email` is the only field a user must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewUser {
    /// Required by XCO.
    pub email: Email,
    /// E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<PhoneNumber>,
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<PersonalText>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<PersonalText>,
    /// Gender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    /// `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birthdate: Option<PersonalText>,
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
}

/// A job's arguments, by type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Does XCO know this customer?
    CheckUser {
        /// Whom to look up.
        contact: Contact,
    },
    /// Create the user, and with it the merchant's consent.
    CreateUser {
        /// The merchant's own identifier of the customer.
        customer_reference: CustomerReference,
        /// The user's email as a contact: whom to look up when a creation is in doubt.
        contact: Contact,
        /// XCO's `user` object (boxed: by far the largest variant).
        user: Box<NewUser>,
    },
    /// Send the customer a one-time code.
    StartOtp {
        /// Where to send it.
        contact: Contact,
    },
    /// Spend the code the customer typed.
    VerifyOtp {
        /// To whom the code was sent.
        contact: Contact,
        /// The code.
        code: VerificationCode,
    },
    /// Link an existing XCO user to the merchant.
    FinalizeConsent {
        /// The merchant's own identifier of the customer.
        customer_reference: CustomerReference,
        /// What stands for the customer's agreement.
        proof: ConsentProof,
    },
}

/// What a `FinalizeConsent` consents with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentProof {
    /// A challenge that an earlier `VerifyOtp` was given (a UUID).
    Challenge(String),
    /// A code, still to be verified.
    Code {
        /// To whom the code was sent.
        contact: Contact,
        /// The code.
        code: VerificationCode,
    },
}

impl Args {
    /// The customer reference that the arguments themselves name.
    pub fn customer_reference(&self) -> Option<&CustomerReference> {
        match self {
            Self::CreateUser { customer_reference, .. } | Self::FinalizeConsent { customer_reference, .. } => {
                Some(customer_reference)
            }
            Self::CheckUser { .. } | Self::StartOtp { .. } | Self::VerifyOtp { .. } => None,
        }
    }

    /// The code these arguments carry, if any.
    pub fn code(&self) -> Option<&VerificationCode> {
        match self {
            Self::VerifyOtp { code, .. } | Self::FinalizeConsent { proof: ConsentProof::Code { code, .. }, .. } => {
                Some(code)
            }
            _ => None,
        }
    }
}
