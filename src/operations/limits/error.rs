//! Errors of changes to limits.

use crate::{
    limits::{LimitName, LimitSetting, MAX_REASON_CHARS},
    operations::Error,
};

/// Why limits could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// No setting has this name.
    #[error("{name}: no such limit")]
    UnknownName {
        /// The name, as it was given.
        name: String,
        /// The setting that was probably meant.
        nearest: Option<LimitSetting>,
    },
    /// The value is not one that the configuration would accept.
    #[error("{setting}: {fault}")]
    BadValue {
        /// The setting.
        setting: LimitSetting,
        /// What is wrong, and what would be right.
        fault: String,
    },
    /// A burst needs a rate.
    #[error("{}: a burst without a rate", .0.burst())]
    BurstWithoutRate(LimitName),
    /// The reason is too long.
    #[error("the reason has more than {MAX_REASON_CHARS} characters")]
    LongReason,
    /// The request names no setting.
    #[error("no limit is named")]
    NothingNamed,
    /// Redis failed.
    #[error(transparent)]
    Queue(#[from] Error),
}

impl LimitError {
    /// The error of a name that is no setting.
    pub fn unknown_name(name: &str) -> Self {
        let likeness = |setting: &LimitSetting| strsim::normalized_damerau_levenshtein(name, setting.as_str());
        // A longer name is not a misspelt one.
        let candidates = LimitSetting::ALL.into_iter().filter(|_| name.len() <= 40);
        let nearest = candidates
            .map(|setting| (likeness(&setting), setting))
            .filter(|(likeness, _)| *likeness >= 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, setting)| setting);
        Self::UnknownName { name: name.chars().take(60).collect(), nearest }
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::UnknownName { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::UnknownName { nearest: None, .. } | Self::NothingNamed => {
                format!("the limits are {}", LimitSetting::ALL.map(LimitSetting::as_str).join(", "))
            }
            Self::BurstWithoutRate(name) => format!("set {} first", name.rate()),
            Self::Queue(error) => error.remedy()?.to_owned(),
            Self::BadValue { .. } | Self::LongReason => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_proposed() {
        for (name, hint) in [
            ("caller.rat", "did you mean caller.rate?"),
            ("concurency", "did you mean concurrency?"),
            ("x", "the limits are caller.rate, caller.burst"),
            (&"caller.rate".repeat(9), "the limits are"),
        ] {
            let remedy = LimitError::unknown_name(name).remedy().unwrap_or_default();
            assert!(remedy.starts_with(hint), "{name}: {remedy}");
        }
    }
}
