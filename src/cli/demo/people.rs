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
    /// `signup-0007`: the id of the job that begins it all.
    pub(super) id: String,
    /// Whether XCO knows them before they come.
    pub(super) known: bool,
    first_name: &'static str,
    last_name: &'static str,
    town: (&'static str, &'static str),
}

/// Makes customers, the same from the same seed.
pub(super) struct People {
    rng: StdRng,
    count: u32,
}

impl People {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), count: 0 }
    }

    /// The next at the checkout: one in three is known, the second and third among them.
    pub(super) fn next(&mut self) -> Customer {
        self.count += 1;
        let known = self.rng.random_bool(1.0 / 3.0);
        self.customer(format!("signup-{:04}", self.count), known || matches!(self.count, 2 | 3))
    }

    /// Somebody with an id of their own.
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
    /// Of a domain that exists for examples.
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

    /// `CheckUser`, and by its outcome `CreateUser` or `StartOtp`: the whole of XCO's guide up to the code.
    pub(super) fn signup(&self) -> Value {
        let mut job = self.check(&self.session());
        job["customer_reference"] = self.reference().into();
        job["next"] = json!({
            "absent": {"type": "CreateUser", "args": self.new_user()},
            "exists": {"type": "StartOtp", "args": {"email": self.email()}},
        });
        job
    }

    /// `CheckUser` alone, at some caller's expense.
    pub(super) fn check(&self, caller: &str) -> Value {
        json!({"id": self.id, "type": "CheckUser", "caller_id": caller, "args": {"email": self.email()}})
    }

    /// `CreateUser` alone, as a backfill does it.
    pub(super) fn create(&self, batch: &str) -> Value {
        json!({"id": self.id, "type": "CreateUser", "batch": batch, "args": self.new_user()})
    }

    /// `FinalizeConsent` with the code that the customer typed.
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
        let mut people = People::new(7);
        let mut again = People::new(7);
        for _ in 0..50 {
            let customer = people.next();
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
