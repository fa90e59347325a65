//! Changing a job in an editor.

use anyhow::Context as _;
use serde_json::Value;
use std::{io::Write, process::Command};

/// Opens a job in `$VISUAL` or `$EDITOR`, in a file that only this user can read. Returns `None` if it was not changed.
pub(super) fn in_editor(job: &str) -> anyhow::Result<Option<String>> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let parsed: Option<Value> = serde_json::from_str(job).ok();
    let pretty = parsed.as_ref().and_then(|job| serde_json::to_string_pretty(job).ok());
    let before = pretty.unwrap_or_else(|| job.to_owned());
    // Private to the user, and removed when it is dropped.
    let mut file = tempfile::Builder::new().prefix("xco-job-").suffix(".json").tempfile()?;
    writeln!(file, "{before}")?;
    file.flush()?;
    // As git does: an editor may be a command with flags.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg(&editor).arg(file.path()).status();
    let status = status.with_context(|| format!("the editor {editor:?} cannot be started"))?;
    anyhow::ensure!(status.success(), "the editor {editor:?} failed: nothing was replayed");
    let after = std::fs::read_to_string(file.path()).context("the edited job cannot be read")?;
    if after.trim() == before.trim() {
        return Ok(None);
    }
    // Compact, as long as it is JSON; validation says the rest.
    let after: String = match serde_json::from_str::<Box<serde_json::value::RawValue>>(&after) {
        Ok(_) => serde_json::from_str::<Value>(&after).map_or(after, |job| job.to_string()),
        Err(_) => after,
    };
    Ok(Some(after))
}
