//! Writes a customer export as French shops have it, to try a backfill with: Latin-1, `;` between cells, French headers, titles
//! in place of a gender, national phone numbers, dates as `DD/MM/YYYY`, countries in French, and duplicates.
//!
//! ```sh
//! cargo run --release --example french_export -- 100000 > clients.csv
//! ```
//!
//! The same number of rows gives the same file.

use std::io::{self, BufWriter, Write};

const HEADER: &str = "N° client;Civilité;Prénom;Nom;Adresse e-mail;Téléphone;Date de naissance;Adresse;Complément;Code postal;\
                      Ville;Pays;Dernière commande";
const FIRST_NAMES: [&str; 10] =
    ["Zoé", "Hélène", "François", "Jérôme", "Anaïs", "Loïc", "Benoît", "Chloé", "Marie", "Thomas"];
const LAST_NAMES: [&str; 8] =
    ["Lefèvre", "D'Arcy", "Müller", "de La Tour", "Nuñez", "Bézier", "Martin; et fils", "O\"Neil"];
const CITIES: [(&str, &str); 6] = [
    ("75001", "Paris"),
    ("06000", "Nice"),
    ("13001", "Marseille"),
    ("42000", "Saint-Étienne"),
    ("1000", "Bruxelles"),
    ("1201", "Genève"),
];

/// A pseudo-random number from `n`: `splitmix64`.
const fn draw(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One of `choices`, the same for the same `n` and `about`.
fn pick<T>(choices: &[T], n: u64, about: u64) -> &T {
    let index = draw(n.wrapping_add(about << 40)) % choices.len() as u64;
    &choices[usize::try_from(index).unwrap_or_default()]
}

fn title(n: u64) -> &'static str {
    ["M.", "M.", "M.", "Mme", "Mme", "Mme", "Mlle", "MME", ""][usize::try_from(draw(n + 11) % 9).unwrap_or_default()]
}

fn phone(n: u64) -> String {
    // Every number in this range is assigned, behind 06 and behind 07 alike.
    let number = 40_000_000 + draw(n + 7) % 40_000_000;
    let digits = number.to_string();
    let pairs = [&digits[..2], &digits[2..4], &digits[4..6], &digits[6..]];
    match draw(n + 13) % 20 {
        0..=8 => format!("06 {}", pairs.join(" ")),
        9..=11 => format!("07.{}", pairs.join(".")),
        12 | 13 => format!("06{digits}"),
        // A spreadsheet took the number for a number.
        14 | 15 => format!("6{digits}"),
        16 => format!("+336{digits}"),
        17 => format!("+33 (0)6 {}", pairs.join(" ")),
        18 => String::new(),
        _ => (*pick(&["0000000000", "non communiqué", "06 12 34"], n, 1)).to_owned(),
    }
}

fn birthdate(n: u64) -> String {
    let (day, month, year) = (draw(n + 17) % 28 + 1, draw(n + 19) % 12 + 1, 1930 + draw(n + 23) % 75);
    match draw(n + 29) % 20 {
        0 => "00/00/0000".to_owned(),
        1 => "31/02/1980".to_owned(),
        2..=4 => String::new(),
        5 => format!("{day}/{month}/{year}"),
        _ => format!("{day:02}/{month:02}/{year}"),
    }
}

/// One row. A hundredth of the customers are there twice, and a few emails are wrong.
fn row(n: u64) -> String {
    let is_repeated = n > 100 && draw(n + 31).is_multiple_of(100);
    let customer = if is_repeated { n - 100 } else { n };
    let (first, last) = (pick(&FIRST_NAMES, customer, 2), pick(&LAST_NAMES, customer, 3));
    let email = match draw(n + 37) % 200 {
        0 => format!("client{customer}@"),
        1 => "pas d'e-mail".to_owned(),
        2 => format!("Client{customer}@Exemple.FR"),
        _ => format!("client{customer}@exemple.fr"),
    };
    let (code, city) = pick(&CITIES, customer, 4);
    let country = match *code {
        "1000" => *pick(&["Belgique", "BE"], n, 5),
        "1201" => *pick(&["Suisse", "CH"], n, 5),
        _ => *pick(&["France", "FRANCE", "FR", "france"], n, 5),
    };
    let complement = if draw(n + 41).is_multiple_of(5) { "\"Bât. B\nétage 3\"" } else { "" };
    let last =
        if last.contains([';', '"']) { format!("\"{}\"", last.replace('"', "\"\"")) } else { (*last).to_owned() };
    let (title, phone, birthdate) = (title(customer), phone(customer), birthdate(customer));
    let house = customer % 200 + 1;
    format!(
        "C{customer:07};{title};{first};{last};{email};{phone};{birthdate};{house} rue de l'Été;{complement};{code};{city};\
         {country};12/03/2024"
    )
}

fn main() -> io::Result<()> {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(100_000_u64);
    let mut to = BufWriter::new(io::stdout().lock());
    for line in std::iter::once(HEADER.to_owned()).chain((1..=rows).map(row)) {
        // Every character here is one of Latin-1.
        let latin1: Vec<u8> = line.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        to.write_all(&latin1)?;
        to.write_all(b"\r\n")?;
    }
    to.flush()
}
