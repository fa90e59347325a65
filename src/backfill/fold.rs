//! Text in a form in which two spellings of the same word are equal.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Whether a character is invisible. Spreadsheets and web pages leave such characters in headers.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// The text without invisible characters, and without white space at both ends.
pub(super) fn visible(text: &str) -> String {
    let text: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    text.trim().to_owned()
}

/// The words of a text in lower case, without accents, with one space between two words.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.nfd().filter(|c| !is_combining_mark(*c) && !is_invisible(*c)).flat_map(char::to_lowercase) {
        match c {
            'ß' => folded.push_str("ss"),
            'œ' => folded.push_str("oe"),
            c if c.is_alphanumeric() => folded.push(c),
            _ if folded.is_empty() || folded.ends_with(' ') => {}
            _ => folded.push(' '),
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_the_same_words_are_equal() {
        assert_eq!(fold("  N° de Téléphone "), "n de telephone");
        assert_eq!(fold("E-Mail\u{200b}_Adresse:"), "e mail adresse");
        assert_eq!(fold("STRASSE"), fold("Straße"));
        assert_eq!(visible("\u{feff} em\u{200b}ail\u{a0}"), "email");
    }
}
