//! Made-up customers, and the jobs that a shop would enqueue for them.

use crate::sandbox::NewSandboxUser;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

const FIRST: [&str; 8] = ["Ada", "Blaise", "Camille", "Denis", "Emilie", "Farid", "Grace", "Henri"];
const LAST: [&str; 8] = ["Arnaud", "Bernard", "Caron", "Dubois", "Evrard", "Fontaine", "Girard", "Hubert"];
const TOWNS: [(&str, &str); 4] = [("Paris", "75001"), ("Lyon", "69002"), ("Lille", "59000"), ("Nantes", "44000")];

/// One customer at the shop's checkout.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    /// The id of the customer's first job, such as `signup-0007`.
    pub(super) id: String,
    /// Whether XCO has an account of this customer from the start.
    pub(super) known: bool,
    first_name: &'static str,
    last_name: &'static str,
    town: (&'static str, &'static str),
}

/// Makes customers: the same seed makes the same customers.
pub(super) struct Customers {
    rng: StdRng,
    count: u32,
}

impl Customers {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), count: 0 }
    }

    /// The next customer at the checkout. XCO knows one in three, the second and the third among them.
    pub(super) fn next(&mut self) -> Customer {
        self.count += 1;
        let known = self.rng.random_bool(1.0 / 3.0);
        self.customer(format!("signup-{:04}", self.count), known || matches!(self.count, 2 | 3))
    }

    /// A customer with this id.
    pub(super) fn customer(&mut self, id: String, known: bool) -> Customer {
        Customer {
            id,
            known,
            first_name: FIRST.choose(&mut self.rng).copied().unwrap_or("Ada"),
            last_name: LAST.choose(&mut self.rng).copied().unwrap_or("Arnaud"),
            town: TOWNS.choose(&mut self.rng).copied().unwrap_or(("Paris", "75001")),
        }
    }
}

impl Customer {
    /// An address of the domain that is reserved for examples.
    pub(super) fn email(&self) -> String {
        format!("{}@example.com", self.id)
    }

    pub(super) fn account(&self) -> NewSandboxUser {
        NewSandboxUser {
            email: self.email(),
            first_name: Some(self.first_name.to_owned()),
            last_name: Some(self.last_name.to_owned()),
            token_count: 1,
            ..NewSandboxUser::default()
        }
    }

    fn reference(&self) -> String {
        format!("shop-{}", self.id)
    }

    fn session(&self) -> String {
        format!("session-{}", self.id)
    }

    /// A `CheckUser` that is followed by `CreateUser` or `StartOtp`: all steps of a signup up to the code.
    pub(super) fn signup(&self) -> Value {
        let mut job = self.check(&self.session());
        job["customer_reference"] = self.reference().into();
        job["next"] = json!({
            "absent": {"type": "CreateUser", "args": self.new_user()},
            "exists": {"type": "StartOtp", "args": {"email": self.email()}},
        });
        job
    }

    /// A `CheckUser` alone, for this caller.
    pub(super) fn check(&self, caller: &str) -> Value {
        json!({"id": self.id, "type": "CheckUser", "caller_id": caller, "args": {"email": self.email()}})
    }

    /// A `CreateUser` alone, of this batch.
    pub(super) fn create(&self, batch: &str) -> Value {
        json!({"id": self.id, "type": "CreateUser", "batch": batch, "args": self.new_user()})
    }

    /// A `FinalizeConsent` with the code that the customer typed.
    pub(super) fn consent(&self, id: &str, code: &str) -> Value {
        json!({"id": id, "type": "FinalizeConsent", "caller_id": self.session(), "args": {
            "customer_reference": self.reference(), "email": self.email(), "verification_code": code}})
    }

    fn new_user(&self) -> Value {
        json!({"customer_reference": self.reference(), "user": {
            "email": self.email(), "first_name": self.first_name, "last_name": self.last_name,
            "addresses": [{"address_type": "billing", "street_address": "1 rue de l'Exemple",
                "locality": self.town.0, "postal_code": self.town.1, "country": "FRANCE"}]}})
    }
}

/// The code with every digit wrong.
pub(super) fn mistyped(code: &str) -> String {
    code.chars().map(|c| c.to_digit(10).and_then(|d| char::from_digit((d + 1) % 10, 10)).unwrap_or('0')).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{ParseContext, parse_job};

    #[test]
    fn every_job_is_valid_and_a_seed_makes_the_same_people() {
        let mut customers = Customers::new(7);
        let mut again = Customers::new(7);
        for _ in 0..50 {
            let customer = customers.next();
            assert_eq!(customer.signup(), again.next().signup());
            let jobs = [customer.signup(), customer.check("c"), customer.create("b"), customer.consent("x", "123456")];
            for job in jobs {
                let context = ParseContext { allow_missing_caller_id: false, default_id: "d", generation: 0 };
                parse_job(job.to_string().as_bytes(), context).unwrap();
            }
        }
    }

    #[test]
    fn a_mistyped_code_is_another_code() {
        assert_eq!(mistyped("109"), "210");
    }
}
