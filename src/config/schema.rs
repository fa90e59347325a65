//! The table of all configuration keys: name, type, default, text, and where the value goes. One file a section.
//!
//! Everything else comes from it. The file and the environment are read with it, `Config::default` applies its defaults, a
//! misspelt key is compared with its names, and `config/xco-worker.toml` and `docs/configuration.md` are written from it.

mod faces;
mod field;
mod limits;
mod queue;
mod read;
mod redis;
mod reference;
mod retry;
mod sections;
mod worker;
mod xco;

pub(super) use field::{BucketDraft, BucketKey, ConfigDraft};
pub use reference::{reference_file, reference_page};

use super::value::{Input, Problems};
use crate::contract::JobType;
use field::{Set, Spec};
use sections::SECTIONS;
use std::sync::OnceLock;

/// One key.
pub(super) struct ConfigKey {
    /// `worker.lease`
    pub(super) name: String,
    /// The default in TOML's spelling; `None` if the key has none.
    pub(super) default: Option<&'static str>,
    /// Messages never quote the value.
    pub(super) secret: bool,
    job_type: JobType,
    set: Set,
}

impl ConfigKey {
    /// Reads the value and stores it in the draft.
    pub(super) fn apply(&self, draft: &mut ConfigDraft, input: &Input<'_>) -> Result<(), Problems> {
        (self.set)(draft, self.job_type, input)
    }
}

/// All keys, in the order of the reference file.
pub(super) fn keys() -> &'static [ConfigKey] {
    static KEYS: OnceLock<Vec<ConfigKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let specs = SECTIONS.iter().flat_map(|section| section.keys.iter().map(|spec| (section.name, spec)));
        specs.flat_map(|(section, spec)| expand(section, spec)).collect()
    })
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static ConfigKey> {
    keys().iter().find(|key| key.name == name)
}

/// Whether there are keys below that name: `limits`, `limits.caller`.
pub(super) fn is_section(name: &str) -> bool {
    keys().iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The keys that a row stands for: one for each job type if its name has a `*`.
fn expand<'s>(section: &'s str, spec: &'s Spec) -> impl Iterator<Item = ConfigKey> + 's {
    spec.names().map(move |(name, job_type)| ConfigKey {
        name: format!("{section}.{name}"),
        default: spec.preset.of(job_type),
        secret: spec.secret,
        job_type,
        set: spec.field.set,
    })
}
