//! Countries as XCO writes them.
//!
//! XCO's public pages show one name, `FRANCE`: in English and in capitals. The others here follow it.

use crate::backfill::fold::fold;
use std::{collections::HashMap, sync::LazyLock};

/// XCO's name, and the names that files have for it: both ISO 3166 codes, then the name in other languages.
const COUNTRIES: [(&str, &[&str]); 43] = [
    ("ANDORRA", &["AD", "AND", "Andorre"]),
    ("AUSTRALIA", &["AU", "AUS", "Australie", "Australien"]),
    ("AUSTRIA", &["AT", "AUT", "Autriche", "Österreich"]),
    ("BELGIUM", &["BE", "BEL", "Belgique", "Belgien", "België", "Bélgica", "Belgio"]),
    ("BRAZIL", &["BR", "BRA", "Brésil", "Brasil"]),
    ("BULGARIA", &["BG", "BGR", "Bulgarie"]),
    ("CANADA", &["CA", "CAN", "Kanada"]),
    ("CROATIA", &["HR", "HRV", "Croatie", "Kroatien"]),
    ("CYPRUS", &["CY", "CYP", "Chypre", "Zypern"]),
    ("CZECHIA", &["CZ", "CZE", "Czech Republic", "République tchèque", "Tchéquie", "Tschechien"]),
    ("DENMARK", &["DK", "DNK", "Danemark", "Dänemark"]),
    ("ESTONIA", &["EE", "EST", "Estonie", "Estland"]),
    ("FINLAND", &["FI", "FIN", "Finlande", "Finnland"]),
    ("FRANCE", &["FR", "FRA", "Frankreich", "Francia", "Frankrijk", "France métropolitaine"]),
    ("GERMANY", &["DE", "DEU", "Allemagne", "Deutschland", "Alemania", "Germania"]),
    ("GREECE", &["GR", "GRC", "Grèce", "Griechenland"]),
    ("HUNGARY", &["HU", "HUN", "Hongrie", "Ungarn"]),
    ("ICELAND", &["IS", "ISL", "Islande", "Island"]),
    ("IRELAND", &["IE", "IRL", "Irlande", "Irland"]),
    ("ITALY", &["IT", "ITA", "Italie", "Italien", "Italia"]),
    ("JAPAN", &["JP", "JPN", "Japon"]),
    ("LATVIA", &["LV", "LVA", "Lettonie", "Lettland"]),
    ("LIECHTENSTEIN", &["LI", "LIE"]),
    ("LITHUANIA", &["LT", "LTU", "Lituanie", "Litauen"]),
    ("LUXEMBOURG", &["LU", "LUX", "Luxemburg"]),
    ("MALTA", &["MT", "MLT", "Malte"]),
    ("MAURITIUS", &["MU", "MUS", "Maurice", "Île Maurice"]),
    ("MONACO", &["MC", "MCO"]),
    ("MOROCCO", &["MA", "MAR", "Maroc", "Marokko"]),
    ("NETHERLANDS", &["NL", "NLD", "Pays-Bas", "Niederlande", "Nederland", "The Netherlands", "Holland"]),
    ("NORWAY", &["NO", "NOR", "Norvège", "Norwegen"]),
    ("POLAND", &["PL", "POL", "Pologne", "Polen"]),
    ("PORTUGAL", &["PT", "PRT"]),
    ("ROMANIA", &["RO", "ROU", "Roumanie", "Rumänien"]),
    ("SENEGAL", &["SN", "SEN", "Sénégal"]),
    ("SLOVAKIA", &["SK", "SVK", "Slovaquie", "Slowakei"]),
    ("SLOVENIA", &["SI", "SVN", "Slovénie", "Slowenien"]),
    ("SPAIN", &["ES", "ESP", "Espagne", "Spanien", "España", "Spagna"]),
    ("SWEDEN", &["SE", "SWE", "Suède", "Schweden"]),
    ("SWITZERLAND", &["CH", "CHE", "Suisse", "Schweiz", "Svizzera"]),
    ("TUNISIA", &["TN", "TUN", "Tunisie"]),
    ("UNITED KINGDOM", &["GB", "GBR", "UK", "Great Britain", "Royaume-Uni", "Angleterre", "Grande-Bretagne"]),
    ("UNITED STATES", &["US", "USA", "United States of America", "États-Unis", "Etats Unis d'Amérique"]),
];

static NAMES: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    let names = |(name, others): &(&'static str, &[&str])| {
        let name = *name;
        others.iter().copied().chain([name]).map(|other| (fold(other), name)).collect::<Vec<_>>()
    };
    COUNTRIES.iter().flat_map(names).collect()
});

/// XCO's name of a country, if the country is known.
pub(super) fn convert(text: &str) -> Option<&'static str> {
    NAMES.get(&fold(text)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_in_other_languages_are_known() {
        for text in ["FR", "fra", "France", " FRANCE ", "Frankreich"] {
            assert_eq!(convert(text), Some("FRANCE"), "{text}");
        }
        assert_eq!(convert("Etats-Unis"), Some("UNITED STATES"));
        assert_eq!(convert("Atlantis"), None);
        let names: usize = COUNTRIES.iter().map(|(_, others)| others.len() + 1).sum();
        assert!(NAMES.len() > names - 12, "a name is given to two countries");
    }
}
