//! Checks the documents: links have targets, the README stays short, named files exist, and generated files are up to date.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Maximum number of lines of the README. A longer one is not read to its end.
const MOST_README_LINES: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        [root().to_owned(), root().join("docs"), root().join("examples"), root().join("tests")]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .collect();
    pages.sort();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// Targets of the Markdown links `](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Anchor of a heading, in GitHub's format.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| if c == ' ' { Some('-') } else { Some(c).filter(|c| c.is_alphanumeric() || *c == '-') })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = target.exists()
                && (section.is_empty()
                    || fs::read_to_string(&target)
                        .unwrap()
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line) == section));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= MOST_README_LINES, "{lines} lines");
}

/// Paths in backticks that start with one of these folders are files of this repository.
#[test]
fn files_that_pages_name_exist() {
    let mut missing = Vec::new();
    for page in pages().into_iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        let text = fs::read_to_string(&page).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "docs/", "deploy/", "config/"].iter().any(|folder| name.starts_with(folder));
            if is_path && !name.contains(' ') && !root().join(name).exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// `docs/where-is-it.md`: each row answers with a file. That the file exists is the test above.
#[test]
fn every_question_is_answered_with_a_file() {
    let text = fs::read_to_string(root().join("docs/where-is-it.md")).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| question")).collect();
    assert!(rows.len() >= 30, "{}", rows.len());
    for row in rows {
        let answer = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        assert!(answer.contains('/') && answer.contains('`'), "{row}");
    }
}

/// `docs/producers.md`: each block of code follows a link to a program in `examples`, and is a part of it. Tests run the programs.
#[test]
fn code_for_producers_is_part_of_a_program() {
    let page = fs::read_to_string(root().join("docs/producers.md")).unwrap();
    let mut blocks = page.split("```");
    let mut text = blocks.next().unwrap();
    let mut checked = 0;
    while let (Some(block), Some(after)) = (blocks.next(), blocks.next()) {
        let code = block.split_once('\n').unwrap().1;
        let file = *links(text).last().unwrap();
        let program = fs::read_to_string(root().join("docs").join(file)).unwrap();
        assert!(!code.trim().is_empty() && program.contains(code), "{file} has no such lines:\n{code}");
        (text, checked) = (after, checked + 1);
    }
    assert!(checked >= 6, "{checked}");
}

/// Files that are written from the table of configuration keys. `UPDATE=1` writes them.
#[test]
fn generated_files_are_up_to_date() {
    for (name, wanted) in [
        ("config/xco-worker.toml", xco_worker::config::reference_file()),
        ("docs/configuration.md", xco_worker::config::reference_page()),
    ] {
        let file = root().join(name);
        if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
            fs::write(&file, &wanted).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        let differs = found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "{name} is out of date from line {}: run `UPDATE=1 cargo test --test documents`",
            differs.map_or(1, |line| line + 1)
        );
    }
}
