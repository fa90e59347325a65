//! The reference of all keys, written from the table: the file `config/xco-worker.toml` and the page `docs/configuration.md`.

use super::{
    field::{Preset, Spec},
    sections::SECTIONS,
};
use crate::contract::JobType;
use std::fmt::Write;

/// The longest line of the file.
const MAX_LINE_CHARS: usize = 120;

const FILE_HEADER: &str = "\
# All keys of xco-worker: what each does, and its default. Every key is commented out, so this file changes nothing as it
# is. A line that begins with \"#\" and a name is a key; a line that begins with \"# \" is text.
#
# This file is generated from src/config/schema. To change a text or a default, see CONTRIBUTING.md.
#
# The environment can set each key too: worker.concurrency is XCO_WORKER__WORKER__CONCURRENCY. First this file is read, then
# the environment, then the flags; the last value wins. `xco-worker doctor` checks the result and names each wrong value.
#
# Durations: 500ms, 10s, 2m, 1h, 7d. Rates: 10/s, 3/m, 100/h.
";

const PAGE_HEADER: &str = "\
# Configuration

All keys, with type and default. This page is generated from `src/config/schema`; [CONTRIBUTING](../CONTRIBUTING.md) shows how to
change it. The same keys, ready to edit: [config/xco-worker.toml](../config/xco-worker.toml).

- **Sources.** The file that `--config` names (otherwise `config/xco-worker.toml`, if it exists), then the environment, then the
  flags. The last value wins. All faults are reported at once, each with its key and its source.
- **Environment.** `worker.concurrency` is `XCO_WORKER__WORKER__CONCURRENCY`. An array is a TOML array, or its items separated by
  commas.
- **Durations** are written `500ms`, `10s`, `2m`, `1h`, `7d`; **rates** `10/s`, `3/m`, `100/h`.
- **`*`** stands for a job type: `check_user`, `create_user`, `start_otp`, `verify_otp` or `finalize_consent`.
- **Secrets** are never quoted in a message or a log line.
";

/// The text of `config/xco-worker.toml`: every key, commented out, with its text and its default.
pub fn reference_file() -> String {
    let mut out = FILE_HEADER.to_owned();
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.text);
        line(&mut out, format_args!("[{}]", section.name));
        for spec in section.keys {
            comment(&mut out, spec.text);
            for (name, job_type) in spec.names() {
                match spec.preset.of(job_type) {
                    Some(default) => line(&mut out, format_args!("#{name} = {default}")),
                    None => line(&mut out, format_args!("#{name} =")),
                }
            }
        }
    }
    out
}

/// The text of `docs/configuration.md`: a table for each section.
pub fn reference_page() -> String {
    let mut out = PAGE_HEADER.to_owned();
    for section in SECTIONS {
        line(&mut out, format_args!("\n## {}\n", section.name));
        if !section.text.is_empty() {
            line(&mut out, format_args!("{}\n", section.text));
        }
        out.push_str("| key | type | default | what it does |\n|---|---|---|---|\n");
        for spec in section.keys {
            let (name, kind, default, text) = (spec.name, &spec.field.kind, default_cell(spec), spec.text);
            line(&mut out, format_args!("| `{}.{name}` | {kind} | {default} | {text} |", section.name));
        }
    }
    out
}

fn default_cell(spec: &Spec) -> String {
    match spec.preset {
        Preset::Unset => "–".to_owned(),
        Preset::Value(text) => format!("`{text}`"),
        Preset::ByType(of) => {
            let each: Vec<_> = JobType::ALL.into_iter().map(|t| format!("`{}`: `{}`", t.config_key(), of(t))).collect();
            each.join(", ")
        }
    }
}

/// Writes a text as lines of comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        if width == 0 || width + 1 + chars > MAX_LINE_CHARS {
            out.push_str(if width == 0 { "# " } else { "\n# " });
            width = 2;
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += chars;
    }
    if width > 0 {
        out.push('\n');
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
