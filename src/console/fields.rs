//! The fields of a query or a form.

use url::form_urlencoded;

/// Maximum number of fields that are read.
const MOST: usize = 1_000;

/// Fields by name, as a browser sends them: an empty field counts as not sent.
#[derive(Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

/// Without values: they may be personal, or a token.
impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(bytes).take(MOST);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a field, without blanks around it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.trim());
        named.find(|value| !value.is_empty())
    }

    /// Whether a box is ticked.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every field with a value, for a form that repeats what was typed.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.trim())).filter(|(_, value)| !value.is_empty())
    }
}

/// `path?name=value&…`, encoded. Pairs without a value are left out.
pub(super) fn link(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_is_not_sent() {
        let fields = Fields::parse(b"a=1&b=&a=+2+&c=%3Cscript%3E");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), (Some("1"), None, Some("<script>")));
        assert!(!format!("{fields:?}").contains("script"));
        assert_eq!(link("/x", &[("q", "a b&c"), ("r", "")]), "/x?q=a+b%26c");
        assert_eq!(link("/x", &[]), "/x");
    }
}
