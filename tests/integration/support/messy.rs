//! A realistic export of a merchant: accents, quoted line breaks, duplicates, wrong emails, missing columns, blank
//! lines, unclosed quotes. The same seed gives the same file.

use std::{collections::BTreeSet, io::Write};

#[derive(Debug, Default)]
pub(crate) struct Messy {
    /// Number of rows, without blank lines.
    pub(crate) rows: u64,
    /// Number of invalid rows.
    pub(crate) rejected: u64,
    /// Number of rows whose customer had an earlier row.
    pub(crate) duplicates: u64,
    /// Email addresses of the valid rows.
    pub(crate) emails: Vec<String>,
}

const FIRST: [&str; 8] = ["Zoë", "José", "Łukasz", "Анна", "Renée", "Jürgen", "Ada", "Søren"];
const LAST: [&str; 6] = ["O'Brien", "Müller-Lüdenscheidt", "de la \"\"Rúa\"\"", "Nguyễn", "Smith", "Ærøskøbing"];

/// A pseudo-random number from `n`: `splitmix64`.
fn draw(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Messy {
    /// Valid customers that have an account before the backfill: every tenth.
    pub(crate) fn known(&self) -> impl Iterator<Item = &String> {
        self.emails.iter().step_by(10)
    }

    /// The valid customers' email addresses, each once.
    pub(crate) fn distinct(&self) -> BTreeSet<&String> {
        self.emails.iter().collect()
    }

    /// Writes `lines` records and blank lines, and records what they contain.
    pub(crate) fn write(lines: u64, to: &mut impl Write) -> Self {
        let mut file = Self::default();
        to.write_all(
            "\u{feff}Kundennummer;E-Mail;Vorname;Nachname;phone_number;gender;billing_street_address;Notiz\r\n"
                .as_bytes(),
        )
        .unwrap();
        for n in 0..lines {
            let chance = draw(n) % 1000;
            let text = file.record(n, chance);
            to.write_all(&text).unwrap();
            to.write_all(if draw(n + 1_000_000_007).is_multiple_of(5) { b"\n" } else { b"\r\n" }).unwrap();
        }
        file
    }

    fn record(&mut self, n: u64, chance: u64) -> Vec<u8> {
        let (first, last) = (FIRST[usize::try_from(n % 8).unwrap()], LAST[usize::try_from(n % 6).unwrap()]);
        let street = match n % 7 {
            0 => format!("\"{n} rue de l'Été\r\nBâtiment \"\"B\"\"\n3e étage\""),
            1 => format!("\"Straße; {n}\""),
            _ => format!("{n} Main Street"),
        };
        let (mut reference, mut email) = (format!("k-{n}"), format!("Customer.{n}@example.com"));
        let (mut phone, mut gender) =
            (format!("+33{:09}", 600_000_000 + n), ["male", "female", "other", ""][usize::try_from(n % 4).unwrap()]);
        // An earlier valid customer, to be repeated.
        let before = self.emails.get(usize::try_from(draw(n + 7) % (self.emails.len() as u64 + 1)).unwrap()).cloned();
        let mut is_duplicate = false;
        match chance {
            0..15 => return if n.is_multiple_of(2) { Vec::new() } else { b" ; ;;;;;;".to_vec() },
            15..60 => {
                let wrong = ["", "nobody", "a b@example.com", "x@localhost"];
                email = String::from(wrong[usize::try_from(n % 4).unwrap()]);
            }
            60..75 => phone = String::from("0612345678"),
            75..85 => gender = "Herr",
            85..95 => reference = String::from(" "),
            95..125 if before.is_some() => {
                let email = before.unwrap_or_default();
                reference = email.replace("Customer.", "k-").replace("@example.com", "");
                is_duplicate = true;
            }
            125..155 if before.is_some() => {
                email = before.unwrap_or_default().to_uppercase();
                is_duplicate = true;
            }
            155..165 => {
                self.rows += 1;
                self.rejected += 1;
                return format!("{reference};{email};{first}").into_bytes();
            }
            165..175 => {
                self.rows += 1;
                self.rejected += 1;
                return format!("{reference};\"{email};{first};Smith;;;{n} Main Street;").into_bytes();
            }
            175..180 => {
                self.rows += 1;
                self.rejected += 1;
                let mut bytes = format!("{reference};{email};").into_bytes();
                bytes.extend_from_slice(b"Ren\xe9e;Smith;;;;");
                return bytes;
            }
            _ => self.emails.push(email.clone()),
        }
        self.rows += 1;
        if is_duplicate {
            self.duplicates += 1;
        } else if self.emails.last() != Some(&email) {
            self.rejected += 1;
        }
        format!("{reference};{email};{first};\"{last}\";{phone};{gender};{street};\"x;y\"").into_bytes()
    }
}

/// Mapping of a messy file's columns.
pub(crate) const MAP: [&str; 4] =
    ["customer_reference=Kundennummer", "email=E-Mail", "first_name=Vorname", "last_name=Nachname"];
