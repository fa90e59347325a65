//! Files as merchants have them, through the binary: a right reading, or the right hint. Nothing here needs Redis.
#![allow(clippy::unwrap_used, missing_docs)]

use assert_cmd::{Command, assert::Assert};
use flate2::{Compression, write::GzEncoder};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use serde_json::{Value, json};
use std::{fs, io::Write, time::Duration};
use tempfile::TempDir;

const ROWS: &str = "customer_reference,email\nc1,a@example.com\nc2,b@example.com\n";

fn folder(name: &str, bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

fn dry_run(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    command.current_dir(folder.path()).env_clear().timeout(Duration::from_secs(20));
    command.args(["backfill", "--dry-run", "--json"]).args(args);
    command
}

fn report(assert: &Assert) -> Value {
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn odd_files_are_read() {
    let utf16: Vec<u8> = ROWS.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let padded = [gzip(ROWS), vec![0; 9000]].concat();
    let separator = format!("sep=,\r\n{ROWS}");
    let invisible = ROWS.replacen("email", "\u{200b}email\u{200b}", 1);
    for bytes in [&utf16[..], &padded, separator.as_bytes(), invisible.as_bytes()] {
        let folder = folder("c.csv", bytes);
        let told = report(&dry_run(&folder, &["c.csv"]).assert().code(0));
        assert_eq!((&told["valid"], told.get("ignored_columns")), (&json!(2), None), "{told}");
    }
}

#[test]
fn files_that_cannot_be_read_are_explained_and_nothing_is_written() {
    let long = (0..50_000).map(|n| format!("c{n},c{n}@example.com\n")).collect::<Vec<_>>().concat();
    let whole = gzip(&format!("customer_reference,email\n{long}"));
    let (cut, text_behind) = (&whole[..whole.len() / 2], [gzip(ROWS), b"text".to_vec()].concat());
    for (bytes, code, wanted) in [
        (&b"PK\x03\x04\x14\0\x06\0"[..], 2, "is a workbook or another ZIP archive"),
        (b"N\xb0 client;email\n1;a@example.com\n", 2, "--encoding latin1"),
        (cut, 1, "its gzip data ends early"),
        (&text_behind, 1, "something else stands behind its gzip data"),
        (b"reference;Adresse e-mail\n", 2, "no columns `customer_reference` and `email`"),
        (b"reference;Adresse e-mail\n", 2, "`Adresse e-mail` looks like email: --map email='Adresse e-mail'"),
    ] {
        let folder = folder("c.csv", bytes);
        dry_run(&folder, &["c.csv"]).assert().code(code).stderr(contains(wanted).and(contains("\u{fffd}").not()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{wanted}");
    }
}

#[test]
fn a_pipe_by_name_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let told = report(&dry_run(&folder, &["/dev/stdin"]).write_stdin(ROWS).assert().code(0));
    assert_eq!(told["valid"], 2, "{told}");

    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn(move || fs::write(pipe, gzip(ROWS)).unwrap());
    let told = report(&dry_run(&folder, &["pipe"]).assert().code(0));
    writer.join().unwrap();
    assert_eq!(told["valid"], 2, "{told}");
}

#[test]
fn conversions_and_ignored_columns_are_shown() {
    let text = "customer_reference,email,phone_number,birthdate,gender,billing_country,Prénom\n\
                1,a@example.com,06 12 34 56 78,9/3/1985,M.,France,Zoé\n2,b@example.com,12,00/00/0000,Mme,FR,\n";
    let folder = folder("c.csv", text.as_bytes());
    let plain = report(&dry_run(&folder, &["c.csv"]).assert().code(0).stderr(contains("looks like first_name")));
    assert_eq!((&plain["rejected"], plain.get("conversions")), (&json!(2), None));
    let args = [
        "c.csv",
        "--date-format=DD/MM/YYYY",
        "--phone-country=FR",
        "--map-value=gender:M.=male",
        "--map-value=gender:Mme=female",
        "--country-names",
        "--drop-invalid-optional",
    ];
    let told = report(&dry_run(&folder, &args).assert().code(0));
    assert_eq!(told["valid"], 2, "{told}");
    let conversion = |kind: &str, column: &str, values: u64, before: &str, after: &str| json!({"kind": kind, "column": column, "values": values, "example": {"before": before, "after": after}});
    assert_eq!(
        told["conversions"],
        json!([
            conversion("map_value", "gender", 1, "M.", "male"),
            conversion("map_value", "gender", 1, "Mme", "female"),
            conversion("date_format", "birthdate", 1, "0/0/0000", "0000-00-00"),
            conversion("phone_country", "phone_number", 1, "00 00 00 00 00", "+00000000000"),
            conversion("country_names", "billing_country", 2, "France", "FRANCE"),
            conversion("dropped", "phone_number", 1, "00", ""),
            conversion("dropped", "birthdate", 1, "00/00/0000", ""),
        ])
    );
    let proposals = json!([{"name": "Prénom", "column": "first_name"}]);
    assert_eq!(told["ignored_columns"], json!([{"names": ["`Prénom`"], "proposals": proposals}]));
    for wrong in ["--date-format=DD/MM", "--phone-country=France", "--map-value=email:a=b"] {
        dry_run(&folder, &["c.csv", wrong]).assert().code(2);
    }
}
