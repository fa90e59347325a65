//! Which column of ours a column of a file may be.

use super::{
    columns::{COLUMNS, index_of},
    fold::fold,
};
use serde::Serialize;
use std::{collections::HashMap, fmt, sync::LazyLock};

/// Names must be at least this similar, where 1 is equal.
const SIMILAR: f64 = 0.93;

/// A header of a file, and the column that it looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// The name in the header.
    pub name: String,
    /// One of [`COLUMNS`].
    pub column: &'static str,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, column } = self;
        write!(f, "`{name}` looks like {column}: --map ")?;
        if name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
            write!(f, "{column}={name}")
        } else {
            write!(f, "{column}='{}'", name.replace('\'', r"'\''"))
        }
    }
}

/// What exports call the columns, in words without accents: English, French, German, Spanish, Italian.
const NAMES: [(&str, &[&str]); 7] = [
    (
        "customer_reference",
        &[
            "customer id",
            "customer number",
            "customer no",
            "customer ref",
            "client id",
            "user id",
            "id client",
            "id customer",
            "id user",
            "reference client",
            "ref client",
            "numero client",
            "n client",
            "n de client",
            "no client",
            "num client",
            "code client",
            "identifiant",
            "identifiant client",
            "compte client",
            "kundennummer",
            "kundennr",
            "kunden nr",
            "kundenid",
            "kunden id",
            "numero cliente",
            "id cliente",
            "codice cliente",
            "codigo cliente",
            "external id",
        ],
    ),
    (
        "email",
        &[
            "e mail",
            "mail",
            "email address",
            "e mail address",
            "mail address",
            "adresse email",
            "adresse e mail",
            "adresse mail",
            "courriel",
            "adresse courriel",
            "adresse electronique",
            "email client",
            "mail client",
            "customer email",
            "e mail adresse",
            "mailadresse",
            "emailadresse",
            "correo",
            "correo electronico",
            "indirizzo email",
            "posta elettronica",
        ],
    ),
    (
        "phone_number",
        &[
            "phone",
            "phone no",
            "mobile",
            "mobile phone",
            "mobile number",
            "cell phone",
            "telephone",
            "tel",
            "telephone mobile",
            "telephone portable",
            "tel mobile",
            "tel portable",
            "portable",
            "numero de telephone",
            "n de telephone",
            "n telephone",
            "numero telephone",
            "gsm",
            "telefon",
            "telefonnummer",
            "handy",
            "handynummer",
            "mobil",
            "telefono",
            "movil",
            "cellulare",
        ],
    ),
    ("first_name", &["firstname", "given name", "forename", "prenom", "prenom client", "vorname", "nombre", "nome"]),
    (
        "last_name",
        &[
            "lastname",
            "surname",
            "family name",
            "nom",
            "nom de famille",
            "nom client",
            "nachname",
            "familienname",
            "apellido",
            "apellidos",
            "cognome",
        ],
    ),
    (
        "gender",
        &[
            "sex",
            "sexe",
            "genre",
            "civilite",
            "civ",
            "titre",
            "title",
            "salutation",
            "geschlecht",
            "anrede",
            "sexo",
            "sesso",
        ],
    ),
    (
        "birthdate",
        &[
            "birth date",
            "birthday",
            "date of birth",
            "dob",
            "date de naissance",
            "date naissance",
            "naissance",
            "ne le",
            "ddn",
            "geburtsdatum",
            "geburtstag",
            "fecha de nacimiento",
            "data di nascita",
        ],
    ),
];

/// What exports call the fields of an address.
const ADDRESS_NAMES: [(&str, &[&str]); 5] = [
    (
        "street_address",
        &[
            "address",
            "address 1",
            "address line 1",
            "street",
            "adresse",
            "adresse 1",
            "rue",
            "strasse",
            "direccion",
            "calle",
            "indirizzo",
            "via",
        ],
    ),
    (
        "address_complement",
        &[
            "address 2",
            "address line 2",
            "adresse 2",
            "complement",
            "complement adresse",
            "complement d adresse",
            "adresszusatz",
        ],
    ),
    ("locality", &["city", "town", "ville", "commune", "localite", "ort", "stadt", "ciudad", "citta", "comune"]),
    (
        "postal_code",
        &[
            "zip",
            "zip code",
            "zipcode",
            "postcode",
            "post code",
            "code postal",
            "cp",
            "plz",
            "postleitzahl",
            "codigo postal",
            "cap",
        ],
    ),
    ("country", &["pays", "land", "pais", "paese", "country code", "code pays"]),
];

/// Words beside the name of an address field that tell which address it is. A name without any is the billing address's.
const ADDRESSES: [(&str, &[&str]); 2] = [
    (
        "billing",
        &[
            "billing",
            "bill",
            "invoice",
            "facturation",
            "fact",
            "facture",
            "rechnung",
            "rechnungs",
            "facturacion",
            "fatturazione",
        ],
    ),
    (
        "delivery",
        &["delivery", "shipping", "ship", "livraison", "liv", "liefer", "lieferung", "envio", "consegna", "spedizione"],
    ),
];

/// Words that say nothing: `adresse de facturation`.
const FILLERS: [&str; 5] = ["de", "d", "the", "la", "du"];

static KNOWN: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
    let mut known = HashMap::new();
    for (index, column) in COLUMNS.iter().enumerate() {
        known.insert(fold(column), index);
    }
    for (column, names) in NAMES {
        known.extend(names.iter().filter_map(|name| Some(((*name).to_owned(), index_of(column)?))));
    }
    let (billing, _) = ADDRESSES[0];
    for (field, names) in ADDRESS_NAMES {
        let names = names.iter().copied().map(str::to_owned).chain([fold(field)]);
        known.extend(names.filter_map(|name| Some((name, index_of(&format!("{billing}_{field}"))?))));
    }
    known
});

/// The column that a header's name looks like.
fn column_like(name: &str) -> Option<usize> {
    let folded = fold(name);
    if folded.len() < 2 || folded.len() > 64 {
        return None;
    }
    if let Some(column) = KNOWN.get(&folded) {
        return Some(*column);
    }
    if let Some(column) = address_like(&folded) {
        return Some(column);
    }
    let similar = |known: &str| strsim::jaro_winkler(known, &folded);
    let close =
        KNOWN.iter().filter(|(known, _)| known.len() > 4).map(|(known, column)| (similar(known), known, *column));
    // Of equals, the first in the alphabet: a proposal is the same in every run.
    let best = close.max_by(|(a, one, _), (b, other, _)| a.total_cmp(b).then_with(|| other.cmp(one)))?;
    (best.0 >= SIMILAR).then_some(best.2)
}

/// A field of the billing or the delivery address: `adresse de livraison`, `ville (facturation)`.
fn address_like(folded: &str) -> Option<usize> {
    let words: Vec<&str> = folded.split(' ').filter(|word| !FILLERS.contains(word)).collect();
    let (kind, marks) = ADDRESSES.iter().find(|(_, marks)| words.iter().any(|word| marks.contains(word)))?;
    let rest: Vec<&str> = words.iter().copied().filter(|word| !marks.contains(word)).collect();
    let rest = rest.join(" ");
    let (field, _) =
        ADDRESS_NAMES.iter().find(|(field, names)| names.contains(&rest.as_str()) || fold(field) == rest)?;
    index_of(&format!("{kind}_{field}"))
}

/// For each of `names` the column that it looks like, unless that column is `taken` or an earlier name looks like it.
pub(super) fn proposals(names: &[&str], taken: impl Fn(usize) -> bool) -> Vec<Proposal> {
    let mut proposed = [false; COLUMNS.len()];
    let mut proposals = Vec::new();
    for name in names {
        if let Some(column) = column_like(name).filter(|column| !taken(*column) && !proposed[*column]) {
            proposed[column] = true;
            proposals.push(Proposal { name: (*name).to_owned(), column: COLUMNS[column] });
        }
    }
    proposals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_languages_and_slips_are_recognised() {
        for (name, wanted) in [
            ("Adresse e-mail", Some("email")),
            ("E-MAIL", Some("email")),
            ("N° client", Some("customer_reference")),
            ("Kundennr.", Some("customer_reference")),
            ("Téléphone portable", Some("phone_number")),
            ("Pr\u{e9}nom", Some("first_name")),
            ("NOM", Some("last_name")),
            ("Civilité", Some("gender")),
            ("Date de naissance", Some("birthdate")),
            ("Adresse de livraison", Some("delivery_street_address")),
            ("Ville (facturation)", Some("billing_locality")),
            ("Code postal", Some("billing_postal_code")),
            ("shipping_country", Some("delivery_country")),
            ("custmer_reference", Some("customer_reference")),
            ("Date de dernière commande", None),
            ("Notiz", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(column_like(name).map(|column| COLUMNS[column]), wanted, "{name}");
        }
    }

    #[test]
    fn a_column_is_proposed_once_and_ready_to_be_pasted() {
        let proposals = proposals(&["Mail", "Courriel", "Nom", "Adresse d'livraison"], |column| column == 4);
        let shown: Vec<_> = proposals.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "`Mail` looks like email: --map email=Mail",
                r"`Adresse d'livraison` looks like delivery_street_address: --map delivery_street_address='Adresse d'\''livraison'"
            ]
        );
    }
}
