//! Types for the personal data and secrets in a job. Their `Debug` redacts, and they have no `Display`.

use serde::Serialize;
use std::{fmt, sync::Arc};

macro_rules! sensitive {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps text that validation has accepted.
            pub(crate) fn from_checked(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// Returns the text itself, for requests to XCO. Never log it.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

sensitive! {
    /// A customer's email address.
    Email
}
sensitive! {
    /// A phone number in E.164 form, `+33612345678`.
    PhoneNumber
}
sensitive! {
    /// The one-time code that a customer typed.
    VerificationCode
}
sensitive! {
    /// Text about a person, such as a name, a street or a birthdate.
    PersonalText
}
