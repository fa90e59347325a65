//! Tests that need a program which is not installed.

use std::{fs::OpenOptions, io::Write};

/// Reports what is not tested, on stderr and in the file `$SKIPPED_FILE`.
pub(crate) fn report_skipped(what: &str, needs: &str) {
    eprintln!("skipped: {what} ({needs} not installed)");
    if let Some(file) = std::env::var_os("SKIPPED_FILE") {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{what} ({needs} not installed)").unwrap();
    }
}
