//! File, environment and flags → [`Config`], or every fault at once.

use super::{
    Config, Limit, TicketKey,
    schema::{BucketDraft, BucketKey, ConfigDraft, find, is_section, keys},
    tokens::{TicketKeyFile, decode_hex},
    urls::is_safe_transport,
    value::{Input, Problems, Value, quote},
};
use secrecy::{SecretSlice, SecretString};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use toml::de::DeTable;

/// The file that is read when `--config` names none, if it is there.
pub const DEFAULT_FILE: &str = "config/xco-worker.toml";

/// What the names of environment variables begin with.
const ENV_PREFIX: &str = "XCO_WORKER__";
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Comparing a misspelt key with every known one costs; a file with more faults than this is not a misspelt one.
const MAX_SUGGESTIONS: usize = 50;

/// Where configuration comes from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`; none: `config/xco-worker.toml` if it is there.
    pub file: Option<PathBuf>,
    /// The environment, as `(name, value)`: `XCO_WORKER__SECTION__KEY`. Other names are not looked at.
    pub env: Vec<(String, String)>,
    /// Flags, as `(key, value, flag)`: `("redis.url", "redis://…", "--redis-url")`.
    pub flags: Vec<(String, String, String)>,
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).filter(|name| name.starts_with(ENV_PREFIX)).collect();
        let flags: Vec<_> = self.flags.iter().map(|(_, _, flag)| flag).collect();
        f.debug_struct("Sources").field("file", &self.file).field("env", &env).field("flags", &flags).finish()
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// `worker.lease`; empty where the fault is the whole file's.
    pub key: String,
    /// `config/xco-worker.toml:12`, `XCO_WORKER__WORKER__LEASE`, `--lease`
    pub origin: String,
    /// What is wrong, and what would be right; never quotes a secret.
    pub detail: String,
}

impl std::fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.detail)
        } else {
            write!(f, "{} ({}): {}", self.key, self.origin, self.detail)
        }
    }
}

/// All faults of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} configuration fault(s)", .0.len())]
pub struct ConfigFaults(pub Vec<ConfigFault>);

/// Loads the configuration: defaults, then the file, then the environment, then flags; the later wins.
///
/// Reads the configuration file (at most 1 MiB) and the secret files it names (at most 64 KiB each; relative names are
/// relative to the working directory), and nothing else of the process. Keys of `xco.*` may be missing: whoever calls
/// XCO says which it needs.
///
/// # Errors
/// Every fault of every source, those of values that a later source overrides included.
pub fn load(sources: &Sources) -> Result<Config, ConfigFaults> {
    let mut loader = Loader::default();
    loader.file(sources.file.as_deref());
    for (name, value) in &sources.env {
        if let Some(rest) = name.strip_prefix(ENV_PREFIX) {
            loader.env(name, &rest.to_lowercase().replace("__", "."), value);
        }
    }
    for (key, value, flag) in &sources.flags {
        loader.value(key, flag.clone(), &Value::Loose(value.clone()));
    }
    loader.finish()
}

#[derive(Default)]
struct Loader {
    draft: ConfigDraft,
    /// Where each key that was read, well or badly, was last written.
    origins: BTreeMap<String, String>,
    faults: Vec<ConfigFault>,
}

impl Loader {
    fn fault(&mut self, key: &str, origin: impl Into<String>, detail: impl Into<String>) {
        self.faults.push(ConfigFault { key: key.to_owned(), origin: origin.into(), detail: detail.into() });
    }

    fn file(&mut self, named: Option<&Path>) {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match read_bounded(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(ReadFault::Missing) if named.is_none() => return,
            Err(fault) => return self.fault("", path.display().to_string(), fault.to_string()),
        };
        let origin = |offset: usize| {
            // A span never ends outside its text, but a slice must not be what finds out otherwise.
            let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
            format!("{}:{line}", path.display())
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            // `message` says what was expected; the full text of the error would quote the line, and a secret with it.
            self.fault("", origin(error.span().map_or(0, |span| span.start)), format!("not TOML: {}", error.message()));
        }
        if errors.is_empty() {
            self.table("", table.get_ref(), &origin);
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, origin: &dyn Fn(usize) -> String) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let is_quoted_path = name.get_ref().contains('.');
            match value.get_ref() {
                toml::de::DeValue::Table(inner) if !is_quoted_path && is_section(&key) => {
                    self.table(&key, inner, origin);
                }
                _ if is_quoted_path => {
                    let detail = "unknown key: write it without quotes, section.key";
                    self.fault(&shortened(&key), origin(name.span().start), detail);
                }
                _ if is_section(&key) => {
                    self.fault(&key, origin(name.span().start), format!("a section, [{key}], not a value"));
                }
                other => self.value(&key, origin(name.span().start), &Value::from_toml(other)),
            }
        }
    }

    fn env(&mut self, name: &str, key: &str, value: &str) {
        if find(key).is_some() {
            return self.value(key, name.to_owned(), &Value::Loose(value.to_owned()));
        }
        let hint = match self.nearest(key) {
            Some(nearest) => format!("; did you mean {ENV_PREFIX}{}?", nearest.replace('.', "__").to_uppercase()),
            None => String::new(),
        };
        self.fault(&shortened(key), shortened(name), format!("unknown key{hint}"));
    }

    fn value(&mut self, key: &str, origin: String, value: &Value) {
        let Some(known) = find(key) else {
            let hint = self.nearest(key).map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
            return self.fault(&shortened(key), origin, format!("unknown key{hint}"));
        };
        if let Err(Problems(details)) = known.apply(&mut self.draft, &Input { value, secret: known.secret }) {
            for detail in details {
                self.fault(key, origin.clone(), detail);
            }
        }
        self.origins.insert(key.to_owned(), origin);
    }

    /// The known key, or section, that `key` was probably meant to be.
    fn nearest(&self, key: &str) -> Option<&'static str> {
        if key.len() > 100 || self.faults.len() > MAX_SUGGESTIONS {
            return None;
        }
        let sections = keys().iter().filter_map(|known| known.name.rsplit_once('.').map(|(section, _)| section));
        keys()
            .iter()
            .map(|known| known.name.as_str())
            .chain(sections)
            .map(|known| (strsim::normalized_damerau_levenshtein(key, known), known))
            .filter(|(likeness, _)| *likeness >= 0.65)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }

    fn origin_of(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| "default".to_owned())
    }

    /// What can only be judged when every source is read.
    fn finish(mut self) -> Result<Config, ConfigFaults> {
        self.secret_files();
        self.limits();
        self.retry();
        self.transport();
        self.draft.config.redis.url_is_set = self.origins.contains_key("redis.url");
        if self.faults.is_empty() { Ok(self.draft.config) } else { Err(ConfigFaults(self.faults)) }
    }

    fn secret_files(&mut self) {
        if let Some(file) = self.draft.client_secret_file.take() {
            self.draft.config.xco.client_secret = self.secret_file("xco.client_secret", &file);
        }
        if let Some(file) = self.draft.api_key_file.take() {
            self.draft.config.xco.api_key = self.secret_file("xco.api_key", &file);
        }
        for key in std::mem::take(&mut self.draft.ticket_key_files) {
            self.ticket_key(key);
        }
    }

    fn ticket_key(&mut self, TicketKeyFile { id, file }: TicketKeyFile) {
        let read = read_bytes(Path::new(&file), MAX_SECRET_BYTES).map_err(|fault| fault.to_string());
        match read.and_then(|bytes| ticket_key_bytes(bytes).map_err(ToOwned::to_owned)) {
            Ok(secret) => {
                self.draft.config.gateway.ticket_keys.push(TicketKey { id, secret: SecretSlice::from(secret) });
            }
            Err(fault) => {
                let origin = self.origin_of("gateway.ticket_keys");
                self.fault("gateway.ticket_keys", origin, format!("key {id}: {}: {fault}", quote(&file)));
            }
        }
    }

    fn secret_file(&mut self, key: &str, file: &str) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        let origin = self.origin_of(&file_key);
        if let Some(other) = self.origins.get(key).cloned() {
            self.fault(&file_key, origin, format!("{key} is set too ({other}): set one of the two"));
            return None;
        }
        let text = match read_bounded(Path::new(file), MAX_SECRET_BYTES) {
            Ok(text) => text,
            Err(fault) => {
                self.fault(&file_key, origin, format!("{}: {fault}", quote(file)));
                return None;
            }
        };
        let value = Value::Text(text.trim_end_matches(['\r', '\n']).to_owned());
        match (Input { value: &value, secret: true }).secret_text() {
            Ok(secret) => Some(secret),
            Err(fault) => {
                self.fault(&file_key, origin, format!("the content of {}: {fault}", quote(file)));
                None
            }
        }
    }

    fn limits(&mut self) {
        for (bucket, BucketDraft { rate, burst }) in std::mem::take(&mut self.draft.buckets) {
            let name = match bucket {
                BucketKey::Caller => "limits.caller".to_owned(),
                BucketKey::Client => "limits.client".to_owned(),
                BucketKey::Total => "limits.total".to_owned(),
                BucketKey::Type(job_type) => format!("limits.types.{}", job_type.config_key()),
            };
            let Some(rate) = rate else {
                // A rate that is there and faulty has been reported already.
                if !self.origins.contains_key(&format!("{name}.rate")) {
                    let key = format!("{name}.burst");
                    let origin = self.origin_of(&key);
                    self.fault(&key, origin, format!("a burst without a rate: set {name}.rate too"));
                }
                continue;
            };
            let limit = Limit { rate, burst: burst.unwrap_or_else(|| rate.one_second_burst()) };
            let limits = &mut self.draft.config.limits;
            match bucket {
                BucketKey::Caller => limits.caller = Some(limit),
                BucketKey::Client => limits.client = Some(limit),
                BucketKey::Total => limits.total = Some(limit),
                BucketKey::Type(job_type) => {
                    limits.types.insert(job_type, limit);
                }
            }
        }
    }

    fn retry(&mut self) {
        let retry = &self.draft.config.retry;
        let of_types = retry.types.iter().map(|(t, r)| (format!("retry.{}", t.config_key()), r.base, r.cap));
        let all: Vec<_> = of_types.chain([("retry".to_owned(), retry.base, retry.cap)]).collect();
        for (name, base, cap) in all {
            if base.zip(cap).is_some_and(|(base, cap)| base > cap) {
                let origin = self.origin_of(&format!("{name}.base"));
                self.fault(&format!("{name}.base"), origin, format!("greater than {name}.cap"));
            }
        }
    }

    fn transport(&mut self) {
        let xco = &self.draft.config.xco;
        if xco.allow_insecure_http {
            return;
        }
        let unsafe_urls: Vec<_> = [("xco.base_url", &xco.base_url), ("xco.token_url", &xco.token_url)]
            .into_iter()
            .filter(|(_, url)| url.as_ref().is_some_and(|url| !is_safe_transport(url)))
            .map(|(key, _)| key)
            .collect();
        for key in unsafe_urls {
            let origin = self.origin_of(key);
            let detail = "http:// would send secrets and customers' data in the clear; use https://, or set \
                          xco.allow_insecure_http where the network is trusted";
            self.fault(key, origin, detail);
        }
    }
}

/// An unknown key for a message: it may be any text of any length.
fn shortened(key: &str) -> String {
    let plain = key.len() <= 100 && key.chars().all(|c| c.is_ascii_graphic());
    if plain { key.to_owned() } else { quote(key) }
}

#[derive(Debug, thiserror::Error)]
enum ReadFault {
    #[error("no such file")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error("longer than {} KiB", .0 / 1024)]
    TooLong(u64),
    #[error("not UTF-8")]
    NotText,
}

fn read_bounded(path: &Path, max_bytes: u64) -> Result<String, ReadFault> {
    String::from_utf8(read_bytes(path, max_bytes)?).map_err(|_| ReadFault::NotText)
}

fn read_bytes(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ReadFault> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ReadFault::Missing,
        kind => ReadFault::Unreadable(kind),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > max_bytes {
        return Err(ReadFault::TooLong(max_bytes));
    }
    Ok(bytes)
}

/// The key in a file: 64 hexadecimal digits and perhaps a line break, else the bytes as they are.
fn ticket_key_bytes(mut bytes: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if let Some(key) = std::str::from_utf8(&bytes).ok().and_then(|text| decode_hex(text.trim_end_matches(['\r', '\n'])))
    {
        return Ok(key.to_vec());
    }
    if bytes.len() > 32 {
        while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            bytes.pop();
        }
    }
    if bytes.len() >= 32 { Ok(bytes) } else { Err("shorter than 32 bytes: `openssl rand -hex 32` makes a key") }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
