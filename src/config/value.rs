//! A value as a source wrote it, and its reading as a type. Messages never quote a secret.

use super::{Rate, parse_duration, parse_rate, units::format_duration};
use crate::contract::MerchantId;
use secrecy::SecretString;
use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};
use toml::de::DeValue;

/// Longer than any secret or URL there is.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// A value as a source wrote it.
#[derive(Clone)]
pub(super) enum Value {
    /// Text that can only be text: a TOML string.
    Text(String),
    /// Text of an environment variable or a flag: whatever the key asks for.
    Loose(String),
    /// A TOML integer, where it fits.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    List(Vec<Value>),
    /// A TOML table within a value (`gateway.tokens`).
    Table(Vec<(String, Value)>),
    /// What no key takes, by its name: a float, a date, an integer too large.
    Other(&'static str),
}

impl Value {
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Self::Other("an integer too large"), Self::Integer),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Boolean(flag) => Self::Boolean(*flag),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect()),
            DeValue::Table(table) => Self::Table(
                table.iter().map(|(key, item)| (key.get_ref().to_string(), Self::from_toml(item.get_ref()))).collect(),
            ),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "text",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// One or several faults of one value.
#[derive(Debug)]
pub(super) struct Problems(pub(super) Vec<String>);

impl From<String> for Problems {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

/// A value to be read, and whether it may be quoted.
pub(super) struct Input<'a> {
    pub(super) value: &'a Value,
    pub(super) secret: bool,
}

impl Input<'_> {
    /// The value for a message: shortened, control characters escaped, a secret not at all.
    fn quoted(&self) -> String {
        if self.secret {
            return "the value".to_owned();
        }
        match self.value {
            Value::Text(text) | Value::Loose(text) => quote(text),
            Value::Integer(number) => number.to_string(),
            other => other.kind().to_owned(),
        }
    }

    fn wrong_type(&self, wanted: &str) -> String {
        format!("{} where {wanted} is wanted", self.value.kind())
    }

    /// Text, not empty, without control characters.
    pub(super) fn text(&self) -> Result<String, String> {
        match self.value {
            Value::Text(text) | Value::Loose(text) if text.trim().is_empty() => Err("empty".to_owned()),
            Value::Text(text) | Value::Loose(text) if text.chars().any(char::is_control) => {
                Err("has control characters (a line break?)".to_owned())
            }
            Value::Text(text) | Value::Loose(text) if text.len() > MAX_TEXT_BYTES => {
                Err("longer than 64 KiB".to_owned())
            }
            Value::Text(text) | Value::Loose(text) => Ok(text.clone()),
            _ => Err(self.wrong_type("text")),
        }
    }

    pub(super) fn secret_text(&self) -> Result<SecretString, String> {
        self.text().map(SecretString::from)
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Result<T, String> {
        let wanted = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = match self.value {
            Value::Integer(number) => *number,
            Value::Loose(text) => text.trim().parse().map_err(|_| format!("{} is not {}", self.quoted(), wanted()))?,
            _ => return Err(self.wrong_type(&wanted())),
        };
        match T::try_from(number) {
            Ok(value) if range.contains(&number) => Ok(value),
            _ => Err(format!("{} is out of range: {}", self.quoted(), wanted())),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self.value {
            Value::Boolean(flag) => Ok(*flag),
            Value::Loose(text) if text == "true" => Ok(true),
            Value::Loose(text) if text == "false" => Ok(false),
            Value::Loose(_) => Err(format!("{} is neither true nor false", self.quoted())),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, String> {
        let (Value::Text(text) | Value::Loose(text)) = self.value else {
            return Err(self.wrong_type("a duration in quotes, such as \"10s\","));
        };
        let duration = parse_duration(text).map_err(|wanted| format!("{}: {wanted}", self.quoted()))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
        Err(format!("{} is out of range: from {low} to {high}", self.quoted()))
    }

    pub(super) fn rate(&self) -> Result<Rate, String> {
        let (Value::Text(text) | Value::Loose(text)) = self.value else {
            return Err(self.wrong_type("a rate in quotes, such as \"10/s\","));
        };
        parse_rate(text).map_err(|wanted| format!("{}: {wanted}", self.quoted()))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
            format!("{} is not {known}", self.quoted())
        })
    }

    /// `off`, or an address with a port.
    pub(super) fn listen(&self) -> Result<Option<SocketAddr>, String> {
        let text = self.text()?;
        if text == "off" {
            return Ok(None);
        }
        let wanted = "an address and port such as 127.0.0.1:9464 or 0.0.0.0:9464, or off";
        text.parse().map(Some).map_err(|_| format!("{} is not {wanted}", self.quoted()))
    }

    pub(super) fn merchant(&self) -> Result<MerchantId, String> {
        let text = self.text()?;
        // The parser takes other spellings (braces, no hyphens) that XCO need not take in a path.
        if text.len() == 36 && uuid::Uuid::try_parse(&text).is_ok() {
            Ok(MerchantId::from_checked(&text))
        } else {
            Err(format!("{} is not a UUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6", self.quoted()))
        }
    }

    /// The items of an array; a loose text is TOML array text, or items separated by `separator`.
    pub(super) fn list(&self, separator: Separator) -> Result<Vec<Value>, String> {
        match self.value {
            Value::List(items) => Ok(items.clone()),
            Value::Loose(text) if text.trim_start().starts_with('[') => match DeValue::parse(text.trim()) {
                Ok(value) => match Value::from_toml(value.get_ref()) {
                    Value::List(items) => Ok(items),
                    _ => Err(self.wrong_type("an array")),
                },
                Err(_) => Err("not a TOML array, such as [\"a\", \"b\"]".to_owned()),
            },
            Value::Loose(text) => Ok(separator.split(text).into_iter().map(Value::Loose).collect()),
            _ => Err(self.wrong_type("an array")),
        }
    }

    /// Reads each item of an array, collecting the faults of all.
    pub(super) fn each<T>(
        &self,
        separator: Separator,
        read: impl Fn(&Input<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, Problems> {
        let mut faults = Vec::new();
        let mut values = Vec::new();
        for (index, item) in self.list(separator)?.iter().enumerate() {
            match read(&Input { value: item, secret: self.secret }) {
                Ok(value) => values.push(value),
                Err(fault) => faults.push(format!("item {}: {fault}", index + 1)),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Problems(faults)) }
    }
}

/// How a loose text is taken apart.
#[derive(Clone, Copy)]
pub(super) enum Separator {
    /// At every comma; blanks around items do not count, and an empty text has none.
    Comma,
    /// At commas with a URL behind them: a sentinel URL has commas of its own.
    CommaBeforeUrl,
}

impl Separator {
    fn split(self, text: &str) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        for piece in text.split(',') {
            match (self, items.last_mut()) {
                (Self::CommaBeforeUrl, Some(last)) if !piece.contains("://") => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => items.push(piece.trim().to_owned()),
            }
        }
        if text.trim().is_empty() { Vec::new() } else { items }
    }
}

/// Quotes text for a message: at most 80 characters, control characters escaped.
pub(super) fn quote(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}
