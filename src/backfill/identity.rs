//! The identity of a backfill: its batch, its files, and the flags that decide which rows these hold. A later run recognises
//! the same backfill by it.

use super::{
    Fingerprints, Layout, Part, Rows, RowsError, Target, digest, output,
    row::file_name,
    stored::{Flags, Stored},
};
use crate::contract::Partitions;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

/// Maximum length of a batch's name: the id of a row's job holds it and the row's number.
const MAX_BATCH_BYTES: usize = 64;

/// Which files to read, and how.
#[derive(Debug, Clone, Default)]
pub struct RowSource {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// How the files are written.
    pub layout: Layout,
    /// The merchant, if it is another than the workers' own.
    pub merchant_id: Option<String>,
    /// The batch's name. Without one, it is made of the first file's name and of the content of all files.
    pub batch: Option<String>,
}

/// A backfill, recognised by the content of its files and by how they are read. Files that correct its rows are added to it: the
/// rows before them stay what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    batch: String,
    /// The files, then those of each correction.
    pub(super) parts: Vec<Part>,
    /// By part: the digest of everything up to it.
    pub(super) fingerprints: Vec<String>,
    pub(super) files: Vec<PathBuf>,
    merchant_id: Option<String>,
    pub(super) partitions: Partitions,
}

/// Why files make no backfill.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be opened.
    #[error("{} cannot be opened: {error}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A path leads to something else than a file.
    #[error("{} is no file; what comes through a pipe can be given as `-`", .0.display())]
    NoFile(PathBuf),
    /// One file is given twice.
    #[error("{} is given twice", .0.display())]
    Twice(PathBuf),
    /// A file was read before, as a part of the batch.
    #[error("{} is a part of the batch already", .0.display())]
    Corrected(PathBuf),
    /// A file to read has the name of a file that the backfill writes.
    #[error("{} would be read and written", .0.display())]
    IsOutput(PathBuf),
    /// The merchant is no UUID.
    #[error("merchant_id: must be a UUID")]
    MerchantId,
    /// The batch's name has other characters than a job id may have, or is too long.
    #[error("batch: must be 1 to {MAX_BATCH_BYTES} of A-Z a-z 0-9 . _ : -")]
    Batch,
    /// Another version stored the backfill in Redis.
    #[error("another version began it")]
    OtherVersion,
    /// The files differ from the files that the backfill was started with.
    #[error("its files are not what they were")]
    FilesChanged,
}

impl IdentityError {
    /// Whether the request is wrong, and not a file.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoFile(_) | Self::Twice(_) | Self::Corrected(_) | Self::IsOutput(_) | Self::MerchantId | Self::Batch
        )
    }
}

impl Identity {
    /// Reads every file once, to recognise the same content later. `partitions` is `redis.partitions`.
    ///
    /// # Errors
    /// [`IdentityError`]: the request is wrong, or a file cannot be read.
    pub fn new(source: RowSource, partitions: Partitions) -> Result<Self, IdentityError> {
        let RowSource { files, layout, merchant_id, batch } = source;
        let files = absolute(&files)?;
        if merchant_id.as_ref().is_some_and(|merchant_id| uuid::Uuid::try_parse(merchant_id).is_err()) {
            return Err(IdentityError::MerchantId);
        }
        check_outputs(&files, &files)?;
        let (content, fingerprint) = fingerprint(&files, &layout, merchant_id.as_deref(), partitions)?;
        let batch = batch.unwrap_or_else(|| default_batch(&files, &content));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if batch.is_empty() || batch.len() > MAX_BATCH_BYTES || !batch.bytes().all(is_allowed) {
            return Err(IdentityError::Batch);
        }
        let parts = vec![Part { files: files.clone(), layout }];
        Ok(Self { batch, parts, fingerprints: vec![fingerprint], files, merchant_id, partitions })
    }

    /// The identity of a backfill that Redis knows: `stored` and `wanted` are what it keeps. Reads every file once.
    ///
    /// # Errors
    /// [`IdentityError::FilesChanged`], [`IdentityError::OtherVersion`], [`IdentityError::Read`].
    pub fn restore(batch: &str, stored: &str, wanted: &str, partitions: Partitions) -> Result<Self, IdentityError> {
        let stored: Stored = serde_json::from_str(stored).map_err(|_| IdentityError::OtherVersion)?;
        let layout = stored.flags.layout().ok_or(IdentityError::OtherVersion)?;
        let (files, merchant_id) = (stored.files, stored.flags.merchant_id);
        let (_, fingerprint) = fingerprint(&files, &layout, merchant_id.as_deref(), partitions)?;
        if fingerprint != wanted {
            return Err(IdentityError::FilesChanged);
        }
        let parts = vec![Part { files: files.clone(), layout }];
        let (batch, fingerprints) = (batch.to_owned(), vec![fingerprint]);
        Ok(Self { batch, parts, fingerprints, files, merchant_id, partitions })
    }

    /// The batch that the rows' jobs belong to.
    pub fn batch(&self) -> &str {
        &self.batch
    }

    /// The files, then those of each correction, as absolute paths.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The names of the files, without their folders.
    pub fn file_names(&self) -> Vec<String> {
        self.files.iter().map(|path| file_name(path)).collect()
    }

    /// The files without those of corrections.
    pub fn first_files(&self) -> &[PathBuf] {
        self.parts.first().map_or(&[], |part| &part.files)
    }

    /// Number of corrections.
    pub fn corrections(&self) -> usize {
        self.parts.len().saturating_sub(1)
    }

    /// SHA-256, in hex, of the files and of everything that decides which rows they hold and where the rows go; without
    /// corrections.
    pub fn fingerprint(&self) -> &str {
        self.fingerprints.first().map_or("", String::as_str)
    }

    /// The form that Redis keeps, in JSON; without corrections.
    pub fn to_json(&self) -> String {
        self.parts.first().map_or_else(String::new, |part| Self::part_json(part, self.merchant_id.as_deref()))
    }

    /// The fingerprint of correction `number`, counted from 1, and the form of it that Redis keeps.
    pub fn correction(&self, number: usize) -> Option<(&str, String)> {
        let (part, fingerprint) = (self.parts.get(number)?, self.fingerprints.get(number)?);
        Some((fingerprint, Self::part_json(part, None)))
    }

    fn part_json(part: &Part, merchant_id: Option<&str>) -> String {
        let stored = Stored { files: part.files.clone(), flags: Flags::new(&part.layout, merchant_id) };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Makes the fingerprints of its customers.
    pub fn fingerprints(&self, salt: &str) -> Fingerprints {
        Fingerprints::new(salt, self.merchant_id.as_deref())
    }

    /// Opens the files to read their rows. `bytes_read` counts the bytes read.
    ///
    /// # Errors
    /// [`RowsError`]: a file cannot be read, or its header lacks a column.
    pub fn rows(&self, bytes_read: Arc<AtomicU64>) -> Result<Rows, RowsError> {
        let target =
            Target { batch: self.batch.clone(), merchant_id: self.merchant_id.clone(), partitions: self.partitions };
        Rows::open(self.parts.clone(), target, bytes_read)
    }
}

/// The digest of a file's content, in hex.
///
/// # Errors
/// The file cannot be read.
pub fn file_digest(path: &Path) -> io::Result<String> {
    digest(&[path]).map(hex).map_err(|(_, error)| error)
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The fingerprint of the files' content alone, and that of everything.
pub(super) fn fingerprint(
    files: &[PathBuf],
    layout: &Layout,
    merchant_id: Option<&str>,
    partitions: Partitions,
) -> Result<(String, String), IdentityError> {
    let content = digest(files).map_err(|(index, error)| {
        let file = files.get(index).cloned().unwrap_or_default();
        IdentityError::Read { file, error }
    })?;
    let mut all = content.clone();
    let flags = Flags::new(layout, merchant_id);
    all.update(serde_json::to_string(&flags).unwrap_or_default());
    all.update(partitions.get().to_le_bytes());
    Ok((hex(content), hex(all)))
}

fn default_batch(files: &[PathBuf], digest: &str) -> String {
    let first = files.first().map(|path| file_name(path)).unwrap_or_default();
    let stem = first.split('.').find(|part| !part.is_empty()).unwrap_or("backfill");
    let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    // A copy of stdin has the digest in its name.
    if stem.ends_with(&digest[..8]) { stem } else { format!("{stem}-{}", &digest[..8]) }
}

/// Absolute paths: a report may be asked for from another folder.
pub(super) fn absolute(given: &[PathBuf]) -> Result<Vec<PathBuf>, IdentityError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in given {
        let absolute = path.canonicalize().map_err(|error| IdentityError::Open { file: path.clone(), error })?;
        if !absolute.is_file() {
            return Err(IdentityError::NoFile(path.clone()));
        }
        if files.contains(&absolute) {
            return Err(IdentityError::Twice(path.clone()));
        }
        files.push(absolute);
    }
    Ok(files)
}

/// Checks that no file in `read` is one that the backfill writes beside `files`.
pub(super) fn check_outputs(files: &[PathBuf], read: &[PathBuf]) -> Result<(), IdentityError> {
    let outputs = |path: &PathBuf| {
        let [csv, ndjson] = output::any_rejected(path);
        [csv, ndjson, output::results(path, None)]
    };
    match files.iter().flat_map(outputs).find(|output| read.contains(output)) {
        Some(both) => Err(IdentityError::IsOutput(both)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::Conversions, *};

    fn source(file: &Path) -> RowSource {
        RowSource { files: vec![file.to_owned()], ..RowSource::default() }
    }

    fn two() -> Partitions {
        Partitions::new(2).unwrap()
    }

    #[test]
    fn the_same_files_are_recognised_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my customers.csv");
        std::fs::write(&file, "email,customer_reference\n").unwrap();
        let identity = Identity::new(source(&file), two()).unwrap();
        assert!(identity.batch().starts_with("my-customers-"), "{identity:?}");
        let restore = |count| {
            let partitions = Partitions::new(count).unwrap();
            Identity::restore(identity.batch(), &identity.to_json(), identity.fingerprint(), partitions)
        };
        assert_eq!(restore(2).unwrap(), identity);
        assert!(matches!(restore(3), Err(IdentityError::FilesChanged)));
        std::fs::write(&file, "customer_reference,email\n").unwrap();
        assert!(matches!(restore(2), Err(IdentityError::FilesChanged)));
        assert!(matches!(Identity::restore("b", "{}", "", two()), Err(IdentityError::OtherVersion)));
    }

    #[test]
    fn conversions_are_part_of_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.csv");
        std::fs::write(&file, "email,customer_reference\n").unwrap();
        let plain = Identity::new(source(&file), two()).unwrap();
        let stored = r#""format":null,"delimiter":null,"encoding":"UTF-8","map":[],"merchant_id":null}"#;
        assert!(plain.to_json().ends_with(stored), "{}", plain.to_json());
        let convert = Conversions {
            map_values: vec!["gender:M.=male".parse().unwrap()],
            date_format: Some("DD/MM/YYYY".parse().unwrap()),
            phone_country: Some("FR".parse().unwrap()),
            country_names: true,
            drop_invalid_optional: true,
        };
        let converted = |convert: &Conversions| {
            let layout = Layout { convert: convert.clone(), ..Layout::default() };
            Identity::new(RowSource { layout, ..source(&file) }, two()).unwrap()
        };
        let all = converted(&convert);
        assert_eq!(Identity::restore(all.batch(), &all.to_json(), all.fingerprint(), two()).unwrap(), all);
        let one = Conversions { country_names: true, ..Conversions::default() };
        let one = converted(&one);
        let fingerprints = [&plain, &all, &one].map(Identity::fingerprint);
        assert_eq!(std::collections::BTreeSet::from(fingerprints).len(), 3);
    }

    #[test]
    fn wrong_requests_are_told_from_unreadable_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.csv");
        std::fs::write(&file, "").unwrap();
        let is_usage = |source: RowSource| Identity::new(source, Partitions::ONE).unwrap_err().is_usage();
        assert!(is_usage(RowSource { batch: Some("a b".to_owned()), ..source(&file) }));
        assert!(is_usage(RowSource { merchant_id: Some("x".to_owned()), ..source(&file) }));
        assert!(is_usage(RowSource { files: vec![file.clone(), file.clone()], ..RowSource::default() }));
        assert!(is_usage(source(folder.path())));
        assert!(!is_usage(source(&folder.path().join("gone.csv"))));
    }
}
