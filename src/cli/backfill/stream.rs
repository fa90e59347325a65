//! Rows that come through a pipe: stdin, `/dev/stdin`, `<(zcat customers.csv.gz)`, a named pipe.

use crate::{cli::say, operations::backfill::file_digest};
use anyhow::Context as _;
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

/// The files to read. Copies of what came through pipes are removed after a dry run.
pub(super) struct Files {
    given: Vec<PathBuf>,
    to_remove: Vec<PathBuf>,
}

impl Files {
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.given.clone()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for copy in &self.to_remove {
            let _ = fs::remove_file(copy);
        }
    }
}

/// The files to read, with a copy in this folder of what comes through a pipe.
pub(super) fn files(given: &[PathBuf], is_dry_run: bool) -> anyhow::Result<Files> {
    let mut files = Files { given: Vec::new(), to_remove: Vec::new() };
    for path in given {
        let (mut pipe, name): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), "stdin")
        } else if is_stream(path) {
            let pipe = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
            (Box::new(pipe), if path == Path::new("/dev/stdin") { "stdin" } else { "pipe" })
        } else {
            files.given.push(path.clone());
            continue;
        };
        let Kept { copy, is_new } = keep(&mut pipe, name)?;
        if !is_dry_run {
            say(&format!("{name} is kept in {}: to go on after an interruption, give that file", copy.display()));
        } else if is_new {
            files.to_remove.push(copy.clone());
        }
        files.given.push(copy);
    }
    Ok(files)
}

/// Whether a path leads to a pipe, which can be read once only.
fn is_stream(path: &Path) -> bool {
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device() || kind.is_socket())
}

struct Kept {
    copy: PathBuf,
    /// Whether no earlier run kept the same.
    is_new: bool,
}

/// Copies `input` into a file of this folder, named after its content. Only a file can be read again, to continue.
fn keep(input: &mut impl Read, name: &str) -> anyhow::Result<Kept> {
    let cannot = || format!("{name} cannot be kept in this folder");
    let mut kept = tempfile::NamedTempFile::new_in(".").with_context(cannot)?;
    io::copy(input, kept.as_file_mut()).with_context(cannot)?;
    let content = file_digest(kept.path()).with_context(|| format!("{name} cannot be read again"))?;
    let copy = PathBuf::from(format!("{name}-{}", &content[..8]));
    let is_new = !copy.exists();
    kept.persist(&copy).with_context(cannot)?;
    Ok(Kept { copy, is_new })
}
