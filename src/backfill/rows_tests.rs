//! Tests of reading rows.
#![allow(clippy::unwrap_used)]
use super::{Format, HeaderFault, Layout, Original, Part, RowFault, RowVerdict, Rows, RowsError, Target};
use super::{convert::Conversions, unpack::tests::gzip};
use crate::contract::Partitions;
use std::sync::Arc;

fn rows(files: &[(&str, &str)], layout: Layout) -> Vec<(u64, usize, u64, String)> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, text)) in paths.iter().zip(files) {
        std::fs::write(path, text).unwrap();
    }
    let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: Partitions::ONE };
    let mut rows = Rows::open(vec![Part { files: paths, layout }], target, Arc::default()).unwrap();
    let mut told = Vec::new();
    let fault = |fault: &RowFault| format!("{} {}", fault.place, fault.reason);
    while let Some(row) = rows.next().unwrap() {
        let text = match row.verdict {
            RowVerdict::Valid { reference, .. } => reference,
            RowVerdict::Rejected { reference, faults } => {
                format!(
                    "{}: {}",
                    reference.unwrap_or_default(),
                    faults.iter().map(fault).collect::<Vec<_>>().join("; ")
                )
            }
            RowVerdict::Duplicate { reference, fault: same } => format!("{reference} = {}", fault(&same)),
        };
        let text = text.split(" /").next().unwrap_or_default().replace(folder.path().to_str().unwrap(), "");
        told.push((row.number, row.file, row.line, text));
    }
    told
}

#[test]
fn rows_are_numbered_through_all_files_and_met_once() {
    let csv =
        "email;customer_reference\n\na@example.com;c1\nnobody;c2\nb@example.com;c1\n\"x\"y;c3\nb@example.com;c4\n";
    let json = "{\"customer_reference\":\"c5\",\"user\":{\"email\":\"A@example.com\"}}\n{\n\n\
                {\"customer_reference\":\"c6\",\"user\":{}}\n{\"customer_reference\":\"c7\",\"user\":{\"email\":\"c@example.com\"}}";
    let told = rows(&[("a.csv", csv), ("b.json", json)], Layout::default());
    let told: Vec<_> = told.iter().map(|(number, file, line, text)| (*number, *file, *line, text.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, 0, 3, "c1"),
            (2, 0, 4, "c2: email must be an email address such as name@example.com"),
            (3, 0, 5, "c1 = customer_reference is that of line 3"),
            (4, 0, 6, ":  text stands behind a closing quote (a quote within quotes is written twice)"),
            (5, 0, 7, "c4"),
            (6, 1, 1, "c5 = email is that of line 3 of"),
            (7, 1, 2, ":  is no JSON at column 1"),
            (8, 1, 4, "c6:"),
            (9, 1, 5, "c7"),
        ]
    );
}

#[test]
fn a_line_cannot_pass_for_more_than_args() {
    let line = r#"{"customer_reference":"c","user":{"email":"a@example.com"}},"caller_id":"x","meta":{}"#;
    let told = rows(&[("a", line)], Layout { format: Some(Format::Ndjson), ..Layout::default() });
    assert!(told[0].3.contains("is no JSON"), "{told:?}");
}

#[test]
fn every_header_is_looked_at_first() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.csv"), folder.path().join("bad.csv"));
    std::fs::write(&good, "email,customer_reference\n").unwrap();
    std::fs::write(&bad, "mail,customer_reference\n").unwrap();
    let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: Partitions::ONE };
    let part = Part { files: vec![good, bad], layout: Layout::default() };
    let opened = Rows::open(vec![part], target, Arc::default());
    assert!(matches!(opened, Err(RowsError::Header { fault: HeaderFault::Missing { .. }, .. })));
}

#[test]
fn damaged_files_and_files_that_are_no_text_are_found_before_the_first_row() {
    let folder = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8], convert: Conversions| {
        let file = folder.path().join("c");
        std::fs::write(&file, bytes).unwrap();
        let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: Partitions::ONE };
        let part = Part { files: vec![file], layout: Layout { convert, ..Layout::default() } };
        Rows::open(vec![part], target, Arc::default()).and_then(|rows| rows.verify())
    };
    let text = (0..20_000).map(|n| format!("c{n},c{n}@example.com\n")).collect::<Vec<_>>().concat();
    let gzip = gzip(format!("customer_reference,email\n{text}").as_bytes());
    assert!(open(&gzip, Conversions::default()).is_ok());
    assert!(matches!(open(&gzip[..gzip.len() / 2], Conversions::default()), Err(RowsError::Io { .. })));
    assert!(matches!(open(b"PK\x03\x04 and more", Conversions::default()), Err(RowsError::NoText { .. })));
    let convert = Conversions { drop_invalid_optional: true, ..Conversions::default() };
    let unconverted = open(b"{}", convert);
    assert!(matches!(unconverted, Err(RowsError::Header { fault: HeaderFault::Unconverted, .. })));
}

#[test]
fn values_are_converted_or_left_out_and_the_rest_is_explained() {
    let csv = "customer_reference,email,phone_number,birthdate,gender,note\n1,a@example.com,06 12 34 56 78,9/3/1985,M.,x\n\
               2,b@example.com,1234,00/00/0000,?,x\n3,nobody,,1985-03-09,,x\n";
    let convert = Conversions {
        map_values: vec!["gender:M.=male".parse().unwrap()],
        date_format: Some("DD/MM/YYYY".parse().unwrap()),
        phone_country: Some("FR".parse().unwrap()),
        ..Conversions::default()
    };
    let layout = |convert| Layout { convert, ..Layout::default() };
    let told = rows(&[("a", csv)], layout(convert.clone()));
    assert_eq!(told[0].3, "1");
    assert!(
        told[1].3.contains("number of FR") && told[1].3.contains("DD/MM/YYYY") && told[1].3.contains("--map-value")
    );
    let told = rows(&[("a", csv)], layout(Conversions { drop_invalid_optional: true, ..convert }));
    assert_eq!([told[0].3.as_str(), told[1].3.as_str()], ["1", "2"]);
    assert!(told[2].3.starts_with("3: email"));
    let told = rows(&[("a", csv)], Layout::default());
    assert!(told[0].3.contains("--phone-country") && told[0].3.contains("--date-format"), "{told:?}");
}

#[test]
fn a_correction_is_converted_and_its_cells_are_kept_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("c.csv"), folder.path().join("d.csv"));
    std::fs::write(&first, "customer_reference,email,phone_number,birthdate\n1,nobody,0612345678,9/3/1985\n").unwrap();
    let corrected = "sep=;\nline;reason;customer_reference;email;phone_number;birthdate\n\
                     2;x;1;a@example.com;'=0612345678;9/3/1985\n2;x;1;a@example.com;0612345678;9/3/1985\n";
    std::fs::write(&second, corrected).unwrap();
    let convert = Conversions {
        date_format: Some("DD/MM/YYYY".parse().unwrap()),
        phone_country: Some("FR".parse().unwrap()),
        ..Conversions::default()
    };
    let layout = Layout { convert, ..Layout::default() };
    let parts = [first, second].map(|file| Part { files: vec![file], layout: layout.clone() });
    let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: Partitions::ONE };
    let mut rows = Rows::open(parts.to_vec(), target, Arc::default()).unwrap();
    let mut next = || rows.next().unwrap().unwrap();
    let [rejected, still, right] = [next(), next(), next()];
    let cells = |text: &str| Original::Cells(text.split(',').map(|cell| cell.as_bytes().to_vec()).collect());
    assert!(rejected.original == cells("1,nobody,0612345678,9/3/1985"));
    assert!(still.original == cells("1,a@example.com,=0612345678,9/3/1985"));
    assert!(right.original == cells("1,a@example.com,0612345678,9/3/1985"));
    assert!(right.corrects == Some(rejected.place()));
    let is_converted = |job: &str| job.contains("\"+33612345678\"") && job.contains("\"1985-03-09\"");
    assert!(matches!(&right.verdict, RowVerdict::Valid { job, .. } if is_converted(job)));
    assert!(rows.inputs().iter().all(|input| input.ignored.names.is_empty()));
    assert_eq!(rows.conversions().iter().map(|one| one.values).collect::<Vec<_>>(), [3, 2]);
}
