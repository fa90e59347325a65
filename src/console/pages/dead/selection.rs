//! Which dead letters a page is about: the fields of its filter.

use crate::{
    console::{
        error::ConsoleError,
        fields::{Fields, link},
        shell::Place,
    },
    contract::{ErrorKind, JobType, MerchantScope},
    operations::dead_letters::Filter,
};
use serde_json::{Map, Value};

/// The fields of the filter. None of them is about a person, so they may stand in addresses.
const NAMES: [&str; 8] = ["type", "error", "status", "http_status", "batch", "since", "id", "replayable"];
/// Fields that may be several times there.
const LISTS: [&str; 4] = ["type", "error", "status", "id"];

/// The fields of a filter that are set, as an address or a form has them.
#[derive(Clone, Default)]
pub(super) struct Selection(Vec<(&'static str, String)>);

/// A choice of a select box.
pub(super) struct Choice {
    pub(super) value: &'static str,
    pub(super) is_chosen: bool,
}

impl Selection {
    pub(super) fn of(fields: &Fields) -> Self {
        let known = |name: &str| NAMES.into_iter().find(|known| *known == name);
        let named = fields.pairs().filter_map(|(name, value)| Some((known(name)?, value.to_owned())));
        Self(named.collect())
    }

    /// The dead letters that it selects, of those that the visitor may see.
    pub(super) fn filter(&self, merchants: &MerchantScope) -> Result<Filter, ConsoleError> {
        let mut members = Map::new();
        for (name, value) in &self.0 {
            let value = Value::from(value.as_str());
            if *name == "replayable" {
                members.insert((*name).to_owned(), true.into());
            } else if !LISTS.contains(name) {
                members.insert((*name).to_owned(), value);
            } else if let Some(list) = members.entry(*name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut() {
                list.push(value);
            }
        }
        let filter: Filter = serde_json::from_value(members.into())
            .map_err(|error| ConsoleError::Invalid(format!("the filter is not valid: {error}")))?;
        Ok(Filter { merchants: merchants.clone(), ..filter })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a field; empty: it is not set.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Each field that is set, for a form that carries them on.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The same with other values of some fields.
    pub(super) fn with(&self, changed: &[(&'static str, &str)]) -> Self {
        let kept = self.0.iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name)).cloned();
        let new =
            changed.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, (*value).to_owned()));
        Self(kept.chain(new).collect())
    }

    /// The address of the list, with further fields.
    pub(super) fn link(&self, path: &str, further: &[(&str, &str)]) -> String {
        let pairs: Vec<_> = self.pairs().chain(further.iter().copied()).collect();
        link(path, &pairs)
    }

    pub(super) fn list(&self) -> String {
        self.link(Place::Dead.path(), &[])
    }

    /// In words: `type CreateUser, since 2h`.
    pub(super) fn words(&self) -> String {
        if self.is_empty() {
            return "all dead letters".to_owned();
        }
        let word = |(name, value): (&str, &str)| match name {
            "http_status" => format!("HTTP {value}"),
            "replayable" => "replayable".to_owned(),
            "id" => format!("job {value}"),
            name => format!("{name} {value}"),
        };
        crate::console::text::shown(&self.pairs().map(word).collect::<Vec<_>>().join(", "))
    }

    pub(super) fn types(&self) -> Vec<Choice> {
        self.choices("type", JobType::ALL.map(JobType::as_str))
    }

    pub(super) fn errors(&self) -> Vec<Choice> {
        self.choices("error", ErrorKind::ALL.map(ErrorKind::as_str))
    }

    fn choices<const N: usize>(&self, name: &str, values: [&'static str; N]) -> Vec<Choice> {
        let chosen = self.get(name);
        values.into_iter().map(|value| Choice { value, is_chosen: value == chosen }).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_of_an_address_select_dead_letters() {
        let query = b"type=CreateUser&error=upstream&error=timeout&since=2h&replayable=yes&caller=x&http_status=";
        let selection = Selection::of(&Fields::parse(query));
        let filter = selection.filter(&MerchantScope::all()).unwrap();
        assert_eq!((filter.job_type.len(), filter.error.len(), filter.replayable), (1, 2, true));
        assert_eq!((filter.caller, filter.http_status), (None, None));
        let other = selection.with(&[("error", "upstream"), ("type", "")]);
        assert_eq!(other.list(), "/console/dead?since=2h&replayable=yes&error=upstream");
        assert!(Selection::of(&Fields::parse(b"type=Nothing")).filter(&MerchantScope::all()).is_err());
        assert_eq!(Selection::default().words(), "all dead letters");
    }
}
