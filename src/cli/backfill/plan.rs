//! What a backfill is about: files, how they are read, its batch; and how a later run knows it again.

use super::BackfillArgs;
use crate::{
    backfill::{Encoding, Format, Layout, MapEntry, Target, digest},
    cli::{Context, UsageError, say},
};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

/// The longest name: a row's job id must hold it and the row's number.
const MAX_BATCH_BYTES: usize = 64;

/// What is to be done.
pub(super) struct Plan {
    pub(super) batch: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) layout: Layout,
    pub(super) merchant_id: Option<String>,
    /// Of the files' bytes and of all that decides which rows they hold, and where these go.
    pub(super) fingerprint: String,
}

/// As it is kept in Redis.
#[derive(Serialize, Deserialize)]
struct Kept {
    files: Vec<PathBuf>,
    #[serde(flatten)]
    flags: Flags,
}

#[derive(Serialize, Deserialize)]
struct Flags {
    format: Option<String>,
    delimiter: Option<char>,
    encoding: String,
    map: Vec<String>,
    merchant_id: Option<String>,
}

impl Flags {
    fn new(layout: &Layout, merchant_id: Option<&str>) -> Self {
        Self {
            format: layout.format.map(|format| format.as_str().to_owned()),
            delimiter: layout.delimiter.map(char::from),
            encoding: layout.encoding.to_string(),
            map: layout.map.iter().map(ToString::to_string).collect(),
            merchant_id: merchant_id.map(str::to_owned),
        }
    }

    fn layout(&self) -> Option<Layout> {
        let map: Result<Vec<MapEntry>, _> = self.map.iter().map(|entry| entry.parse()).collect();
        Some(Layout {
            format: self.format.as_deref().map(str::parse::<Format>).transpose().ok()?,
            delimiter: self.delimiter.map(u8::try_from).transpose().ok()?,
            encoding: self.encoding.parse::<Encoding>().ok()?,
            map: map.ok()?,
        })
    }
}

impl Plan {
    /// From flags; reads every file once.
    pub(super) fn new(args: &BackfillArgs, context: &Context) -> anyhow::Result<Self> {
        let files = files(&args.files)?;
        let layout =
            Layout { format: args.format, delimiter: args.delimiter, encoding: args.encoding, map: args.map.clone() };
        if let Some(merchant_id) = &args.merchant_id {
            uuid::Uuid::try_parse(merchant_id).map_err(|_| UsageError("--merchant-id: must be a UUID".to_owned()))?;
        }
        let (digest, fingerprint) =
            fingerprint(&files, &layout, args.merchant_id.as_deref(), context.config.redis.partitions)?;
        let batch = match &args.batch {
            Some(batch) => batch.clone(),
            None => default_batch(&files, &digest),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if batch.is_empty() || batch.len() > MAX_BATCH_BYTES || !batch.bytes().all(allowed) {
            return Err(UsageError(format!("--batch: must be 1 to {MAX_BATCH_BYTES} of A-Z a-z 0-9 . _ : -")).into());
        }
        Ok(Self { batch, files, layout, merchant_id: args.merchant_id.clone(), fingerprint })
    }

    /// From what Redis keeps; `None`, with what is said, where the files are not there (any more) as they were.
    pub(super) fn again(batch: &str, kept: &str, wanted: &str, partitions: u16) -> Result<Self, String> {
        let kept: Kept = serde_json::from_str(kept).map_err(|_| "another version began it".to_owned())?;
        let layout = kept.flags.layout().ok_or("another version began it")?;
        let merchant_id = kept.flags.merchant_id;
        match fingerprint(&kept.files, &layout, merchant_id.as_deref(), partitions) {
            Ok((_, fingerprint)) if fingerprint == wanted => {
                Ok(Self { batch: batch.to_owned(), files: kept.files, layout, merchant_id, fingerprint })
            }
            Ok(_) => Err("its files are not what they were".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let flags = Flags::new(&self.layout, self.merchant_id.as_deref());
        let kept = Kept { files: self.files.clone(), flags };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    pub(super) fn target(&self, partitions: u16) -> Target {
        Target { batch: self.batch.clone(), merchant_id: self.merchant_id.clone(), partitions }
    }

    /// The files' names, without their folders.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|path| name(path)).collect()
    }
}

/// What was begun, in a few words.
pub(super) fn described(kept: &str) -> String {
    match serde_json::from_str::<Kept>(kept) {
        Ok(Kept { files, flags }) => {
            let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
            let flags = serde_json::to_string(&flags).unwrap_or_default();
            format!("{} {flags}", files.join(" "))
        }
        Err(_) => "(by another version)".to_owned(),
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of the files' content alone, and of everything.
fn fingerprint(
    files: &[PathBuf],
    layout: &Layout,
    merchant_id: Option<&str>,
    partitions: u16,
) -> anyhow::Result<(String, String)> {
    let content = digest(files).map_err(|(index, error)| {
        let path = files.get(index).map(|path| path.display().to_string()).unwrap_or_default();
        anyhow::anyhow!("{path} cannot be read: {error}")
    })?;
    let mut all = content.clone();
    let flags = Flags::new(layout, merchant_id);
    all.update(serde_json::to_string(&flags).unwrap_or_default());
    all.update(partitions.to_le_bytes());
    Ok((hex(content), hex(all)))
}

fn default_batch(files: &[PathBuf], digest: &str) -> String {
    let first = files.first().map(|path| name(path)).unwrap_or_default();
    let stem = first.split('.').find(|part| !part.is_empty()).unwrap_or("backfill");
    let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    format!("{stem}-{}", &digest[..8])
}

/// Whole paths: a report may be asked for from another folder. Stdin becomes a file.
fn files(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in given {
        let path = if path == Path::new("-") { &keep_stdin()? } else { path };
        let whole = std::fs::canonicalize(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        if !whole.is_file() {
            return Err(UsageError(format!(
                "{} is no file; what comes through a pipe can be given as `-`",
                path.display()
            ))
            .into());
        }
        if files.contains(&whole) {
            return Err(UsageError(format!("{} is given twice", path.display())).into());
        }
        files.push(whole);
    }
    let outputs = |path: &PathBuf| [super::files::rejected(path), super::files::results(path)];
    if let Some(both) = files.iter().flat_map(outputs).find(|output| files.contains(output)) {
        return Err(UsageError(format!("{} would be read and written", both.display())).into());
    }
    Ok(files)
}

/// Copies stdin into a file of this folder, named by its content: only what can be read again can be taken up again.
fn keep_stdin() -> anyhow::Result<PathBuf> {
    let mut copy = tempfile::NamedTempFile::new_in(".").context("stdin cannot be kept in this folder")?;
    io::copy(&mut io::stdin().lock(), copy.as_file_mut()).context("stdin cannot be kept in this folder")?;
    let content = digest(&[copy.path()]).map(hex).map_err(|(_, error)| error).context("stdin cannot be read again")?;
    let path = PathBuf::from(format!("stdin-{}", &content[..8]));
    copy.persist(&path).context("stdin cannot be kept in this folder")?;
    say(&format!("stdin is kept in {}: to go on after an interruption, give that file", path.display()));
    Ok(path)
}
