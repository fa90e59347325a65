//! Corrections: files with corrected rows, added to a backfill.

use super::{
    Encoding, Identity, IdentityError, Layout, Part,
    identity::{Stored, absolute, check_outputs, fingerprint, hex},
};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Files that correct rows of a backfill, and where they are written otherwise than its files.
#[derive(Debug, Clone, Default)]
pub struct Correction {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// The encoding, if it is another.
    pub encoding: Option<Encoding>,
    /// The byte between cells, if it is another.
    pub delimiter: Option<u8>,
}

impl Identity {
    /// Adds a correction that Redis knows: `stored` and `wanted` are what it keeps. Reads its files once.
    ///
    /// # Errors
    /// [`IdentityError::FilesChanged`], [`IdentityError::OtherVersion`], [`IdentityError::Read`].
    pub fn restore_correction(&mut self, stored: &str, wanted: &str) -> Result<(), IdentityError> {
        let stored: Stored = serde_json::from_str(stored).map_err(|_| IdentityError::OtherVersion)?;
        let layout = stored.flags.layout().ok_or(IdentityError::OtherVersion)?;
        self.add(Part { files: stored.files, layout })?;
        if self.fingerprints.last().is_some_and(|fingerprint| fingerprint == wanted) {
            Ok(())
        } else {
            Err(IdentityError::FilesChanged)
        }
    }

    /// Adds a correction. Nothing is added if it is the last one that was added: a run that corrects is then continued.
    ///
    /// # Errors
    /// [`IdentityError`]: the request is wrong, or a file cannot be read.
    pub fn correct(&mut self, correction: Correction) -> Result<(), IdentityError> {
        let Correction { files, encoding, delimiter } = correction;
        let files = absolute(&files)?;
        let first = self.parts.first().cloned().unwrap_or_default();
        let layout = Layout {
            encoding: encoding.unwrap_or(first.layout.encoding),
            delimiter: delimiter.or(first.layout.delimiter),
            ..first.layout
        };
        let part = Part { files, layout };
        if self.parts.len() > 1 && self.parts.last() == Some(&part) {
            return Ok(());
        }
        if let Some(twice) = part.files.iter().find(|file| self.files.contains(file)) {
            return Err(IdentityError::Corrected(twice.clone()));
        }
        let read: Vec<PathBuf> = self.files.iter().chain(&part.files).cloned().collect();
        check_outputs(&part.files, &read)?;
        self.add(part)
    }

    fn add(&mut self, part: Part) -> Result<(), IdentityError> {
        let (_, own) = fingerprint(&part.files, &part.layout, None, self.partitions)?;
        let before = self.fingerprints.last().map_or("", String::as_str);
        let mut all = Sha256::new();
        all.update(before);
        all.update(own);
        self.fingerprints.push(hex(all));
        self.files.extend(part.files.iter().cloned());
        self.parts.push(part);
        Ok(())
    }
}
