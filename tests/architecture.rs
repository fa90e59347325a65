//! Checks which module may import which. The table here enforces the one in `src/lib.rs`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "architecture/imports.rs"]
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of this crate that each module may name.
const MAY_IMPORT: [(&str, &[&str]); 20] = [
    ("contract", &[]),
    ("rules", &["contract"]),
    ("config", &["contract"]),
    ("net", &["config"]),
    ("telemetry", &["contract", "config", "net"]),
    ("xco", &["contract", "config", "net", "telemetry"]),
    ("limits", &["contract", "config"]),
    ("jobs", &["contract", "config", "limits", "xco"]),
    ("dead_letters", &["contract", "config", "limits", "jobs"]),
    ("queue", &["contract", "rules", "config", "limits", "dead_letters", "net", "telemetry"]),
    ("worker", &["contract", "rules", "config", "net", "telemetry", "limits", "jobs", "queue", "xco"]),
    ("completions", &["contract", "config", "net", "queue"]),
    ("backfill", &["contract", "config"]),
    (
        "operations",
        &[
            "contract",
            "rules",
            "config",
            "net",
            "telemetry",
            "xco",
            "limits",
            "jobs",
            "dead_letters",
            "queue",
            "completions",
            "backfill",
        ],
    ),
    ("client", &["operations", "completions", "config", "contract"]),
    ("sandbox", &[]),
    ("access", &["config", "contract", "operations"]),
    ("console", &["access", "contract", "config", "net", "telemetry", "completions", "operations"]),
    ("gateway", &["access", "console", "contract", "config", "net", "telemetry", "completions", "operations"]),
    ("cli", &["contract", "config", "telemetry", "worker", "completions", "operations", "sandbox", "gateway"]),
];

/// The crates that each module must not use.
const NEVER: [(&str, &[&str]); 15] = [
    ("contract", &["tokio", "redis", "reqwest", "axum", "apalis", "apalis_core", "tracing", "rand"]),
    ("rules", &["tokio", "redis", "reqwest", "axum"]),
    ("limits", &["tokio", "redis", "reqwest", "axum"]),
    ("jobs", &["tokio", "redis", "reqwest", "axum", "rand"]),
    ("net", &["redis", "reqwest", "axum", "apalis", "apalis_core"]),
    ("xco", &["redis", "axum", "apalis", "apalis_core"]),
    ("queue", &["reqwest", "axum", "apalis", "apalis_core"]),
    ("dead_letters", &["tokio", "redis", "reqwest", "axum", "clap", "anyhow", "rand"]),
    ("backfill", &["tokio", "redis", "reqwest", "axum", "clap", "anyhow", "rand"]),
    ("operations", &["clap", "anyhow", "indicatif", "axum", "apalis", "apalis_core"]),
    ("access", &["redis", "reqwest", "axum", "clap", "anyhow"]),
    ("gateway", &["redis", "reqwest", "clap", "anyhow", "apalis", "apalis_core"]),
    ("console", &["redis", "reqwest", "clap", "anyhow", "apalis", "apalis_core"]),
    ("client", &["redis", "reqwest", "axum", "clap", "anyhow", "apalis", "apalis_core"]),
    ("cli", &["redis", "reqwest"]),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The text without comments, with `crate::{a, b::c}` expanded to `crate::a crate::b`.
fn named_modules(text: &str, root: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + root.len() + 2..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        named.insert(std::mem::take(&mut name));
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 {
                    name.push(c);
                }
            }
            named.insert(name);
        } else {
            named.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    let modules = named.iter().filter_map(|name| name.trim().split("::").next());
    modules.filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

#[test]
fn imports_point_one_way() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let mut wrong = Vec::new();
    for (module, may) in &allowed {
        let mut files = Vec::new();
        sources(&Path::new("src").join(module), &mut files);
        assert!(!files.is_empty(), "{module} is gone: the table is out of date");
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            for name in named_modules(&text, "crate") {
                if allowed.contains_key(name.as_str()) && name != *module && !may.contains(&name.as_str()) {
                    wrong.push(format!("{} imports {name}", file.display()));
                }
            }
            for (_, crates) in NEVER.iter().filter(|(name, _)| name == module) {
                for banned in *crates {
                    if !named_modules(&text, banned).is_empty() {
                        wrong.push(format!("{} uses {banned}", file.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two files that import each other are one file in two pieces: neither is understood, tested or moved without the other.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = imports::Crate::read(Path::new("src")).circles();
    let told: Vec<String> = circles
        .iter()
        .map(|circle| format!("{}:\n    {}", circle.modules.join(", "), circle.imports.join("\n    ")))
        .collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
}

/// Who acts, and what is printed, is decided by a face.
#[test]
fn operations_know_no_terminal_and_no_environment() {
    let mut files = Vec::new();
    sources(Path::new("src/operations"), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for banned in ["env::var", "println!", "eprintln!", "stdout()", "stderr()", "IsTerminal", "SystemTime::now"] {
            if text.contains(banned) {
                wrong.push(format!("{} uses {banned}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module() {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let modules: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, MAY_IMPORT.iter().map(|(module, _)| *module).collect());
}

#[test]
fn the_scan_sees_groups_and_paths() {
    let text = "use crate::{\n    config::{A, B},\n    queue,\n};\n// crate::cli\nlet x = crate::xco::Call;";
    let seen = named_modules(text, "crate");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["config", "queue", "xco"]);
}
