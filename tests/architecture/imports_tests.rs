//! It finds the circles that there are, and no others.

use super::Crate;

fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    Crate::of(files.iter().copied()).circles().into_iter().map(|circle| circle.modules).collect()
}

#[test]
fn siblings_that_import_each_other_are_a_circle() {
    let files = [
        ("lib.rs", "pub mod a; pub mod b; pub mod c;"),
        ("a.rs", "use super::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn f() { let x = vec![crate::c::make::<u8>()]; }"),
        ("c.rs", "use crate::{a::{self, Other}, b}; pub fn make<T>() -> a::A { todo!() }"),
    ];
    assert_eq!(circles_of(&files), [["a", "b", "c"]]);
    let circle = &Crate::of(files).circles()[0];
    assert_eq!(circle.imports[0], "a → b (super::b::B)");
}

#[test]
fn a_re_export_is_an_import_of_where_the_item_lives() {
    let parent = ("a/mod.rs", "mod low; mod high; pub use high::High; pub use low::*;");
    let low = ("a/low.rs", "pub struct Low;");
    assert_eq!(circles_of(&[parent, low, ("a/high.rs", "use super::Low; pub struct High(Low);")]), [[""; 0]; 0]);
    let parent = ("a/mod.rs", "mod low; mod high; pub use high::High; pub struct Own;");
    assert_eq!(circles_of(&[parent, low, ("a/high.rs", "pub struct High(super::Own);")]), [["a", "a/high"]]);
}

#[test]
fn a_module_is_seen_through_the_name_that_stands_for_it() {
    let a = ("a.rs", "use super::b as other; fn f() { other::g() }");
    let b = ("b.rs", "pub fn g() { crate::a::f() }");
    assert_eq!(circles_of(&[("lib.rs", ""), a, b]), [["a", "b"]]);
    let lib = ("lib.rs", "mod a; mod b;");
    assert_eq!(circles_of(&[lib, ("a.rs", "use super::b::B;"), ("b.rs", "use std::a::B;")]), [[""; 0]; 0]);
}

#[test]
fn tests_comments_texts_and_declarations_import_nothing() {
    let b = ("b.rs", "use super::a::A; pub struct B(A);");
    for harmless in [
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] #[path = \"x.rs\"] mod tests; pub struct A;",
        "// crate::b::B\n/// [`crate::b::B`]\npub struct A;",
        "pub const A: &str = \"crate::b::B\";",
        "pub(in crate::b) struct A;",
    ] {
        assert_eq!(circles_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", harmless), b]), [[""; 0]; 0], "{harmless}");
    }
    let seen = "#[cfg(test)] mod tests {} fn f() { crate::b::g() }";
    assert_eq!(circles_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", seen), b]), [["a", "b"]]);
}

#[test]
fn an_inline_module_is_one_floor_lower() {
    let b = ("b.rs", "use super::a::A;");
    let lib = ("lib.rs", "mod a; mod b;");
    let own = "pub struct A; mod inner { use super::A; }";
    assert_eq!(circles_of(&[lib, ("a.rs", own), b]), [[""; 0]; 0]);
    let others = "pub struct A; mod inner { use super::super::b::B; }";
    assert_eq!(circles_of(&[lib, ("a.rs", others), b]), [["a", "b"]]);
}
