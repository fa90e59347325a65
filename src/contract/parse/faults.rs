//! Collects faults: their location, their text and their order.

use crate::contract::{Fault, json::Node};
use serde_json::Number;
use std::cmp::Ordering;

/// Maximum number of faults in a rejection. Without it, a job full of faults would become a completion many times its
/// size.
const MAX_FAULTS: usize = 256;

/// A location in the document. It is written as a JSON Pointer only when a fault is reported.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    pub(super) const fn key(&'p self, name: &'p str) -> Self {
        Self::Key(self, name)
    }

    pub(super) const fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// Returns the JSON Pointer (RFC 6901).
    pub(super) fn pointer(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Root => {}
            Self::Key(parent, name) => {
                parent.write(out);
                out.push('/');
                for c in name.chars() {
                    match c {
                        '~' => out.push_str("~0"),
                        '/' => out.push_str("~1"),
                        c => out.push(c),
                    }
                }
            }
            Self::Index(parent, index) => {
                parent.write(out);
                out.push('/');
                out.push_str(&index.to_string());
            }
        }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    unlisted: usize,
    invalid: bool,
}

impl Faults {
    /// Adds a fault that makes the job invalid at `path`.
    pub(super) fn add(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.invalid = true;
        self.push(path, detail.into());
    }

    /// Adds the fault that the job at `path` needs a caller and has none. This fault has its own error kind.
    pub(super) fn add_missing_caller(&mut self, path: &Path<'_>) {
        self.push(path, "is required: the type needs `caller_id`, or `customer_reference` in its place".to_owned());
    }

    fn push(&mut self, path: &Path<'_>, detail: String) {
        if self.is_full() {
            self.unlisted += 1;
        } else {
            self.list.push(Fault { pointer: path.pointer(), detail });
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the list is full. Further faults are counted but not described.
    const fn is_full(&self) -> bool {
        self.list.len() >= MAX_FAULTS
    }

    /// Whether there is any fault other than a missing caller.
    pub(super) const fn invalid(&self) -> bool {
        self.invalid
    }

    /// Whether there is a fault at exactly this pointer.
    pub(super) fn at(&self, pointer: &str) -> bool {
        self.list.iter().any(|fault| fault.pointer == pointer)
    }

    /// Returns the faults in the order of the document. Faults about missing fields come last.
    pub(super) fn into_sorted(self, root: &Node<'_>) -> Vec<Fault> {
        let mut placed: Vec<_> = self.list.into_iter().map(|fault| (position(root, &fault.pointer), fault)).collect();
        placed.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut list: Vec<Fault> = placed.into_iter().map(|(_, fault)| fault).collect();
        list.dedup();
        if self.unlisted > 0 {
            list.push(Fault {
                pointer: String::new(),
                detail: format!("has at least {} more faults, not listed", self.unlisted),
            });
        }
        list
    }
}

/// Returns the indices that lead to `pointer`, so that faults can be sorted in the order of the document. A missing
/// part sorts last.
fn position(root: &Node<'_>, pointer: &str) -> Vec<usize> {
    let mut at = Some(root);
    pointer
        .split('/')
        .skip(1)
        .map(|segment| match at.take() {
            Some(Node::Object(members)) => {
                let name = segment.replace("~1", "/").replace("~0", "~");
                let index = members.iter().position(|(key, _)| *key == name);
                at = index.and_then(|index| members.get(index)).map(|(_, value)| value);
                index.unwrap_or(usize::MAX)
            }
            Some(Node::Array(values)) => {
                let index = segment.parse().unwrap_or(usize::MAX);
                at = values.get(index);
                index
            }
            _ => usize::MAX,
        })
        .collect()
}

/// Returns the value of each of `names` in an object, in the order of `names`. `null` counts as absent. Unknown keys
/// and duplicate keys are faults.
pub(super) fn fields<'n, const N: usize>(
    node: &'n Node<'n>,
    names: &[&'static str; N],
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<[Option<&'n Node<'n>>; N]> {
    let members = match node {
        Node::Object(members) => members.as_slice(),
        // An empty PHP array stands for an empty object, except for the job as a whole.
        Node::Array(values) if values.is_empty() && !matches!(path, Path::Root) => &[],
        _ => {
            faults.add(path, format!("must be an object, not {}", node.kind()));
            return None;
        }
    };
    let mut found = [None; N];
    let mut seen = [false; N];
    for (key, value) in members {
        match names.iter().position(|name| name == key) {
            Some(index) if seen[index] => faults.add(&path.key(key), "must not appear more than once"),
            Some(index) => {
                seen[index] = true;
                found[index] = (*value != Node::Null).then_some(value);
            }
            None if faults.is_full() => faults.add(&path.key(key), ""),
            None => faults.add(&path.key(key), unknown(key, names)),
        }
    }
    Some(found)
}

fn unknown(key: &str, names: &[&'static str]) -> String {
    match nearest(key, names.iter().copied()) {
        Some(name) => format!("is no field known here; did you mean `{name}`?"),
        None => "is no field known here".to_owned(),
    }
}

/// Returns the name that `text` most resembles, if it is probably a typing error.
pub(super) fn nearest(text: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // The comparison is quadratic. A text much longer than any name is not a typing error.
    if text.len() > 48 {
        return None;
    }
    let text = text.to_ascii_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&text, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.84)
        .max_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal))
        .map(|(_, name)| name)
}

/// Returns the field, or adds the fault that it is missing.
pub(super) fn required<'n>(node: Option<&'n Node<'n>>, path: &Path<'_>, faults: &mut Faults) -> Option<&'n Node<'n>> {
    if node.is_none() {
        faults.add(path, "is required");
    }
    node
}

/// Accepts a non-empty string that passes `rule`.
pub(super) fn text<'n, T>(
    node: Option<&'n Node<'n>>,
    path: &Path<'_>,
    faults: &mut Faults,
    rule: impl FnOnce(&'n str) -> Result<T, &'static str>,
) -> Option<T> {
    match node? {
        Node::String(text) if text.is_empty() => {
            faults.add(path, "must not be empty");
            None
        }
        Node::String(text) => rule(text).map_err(|detail| faults.add(path, detail)).ok(),
        other => {
            faults.add(path, format!("must be a string, not {}", other.kind()));
            None
        }
    }
}

/// Accepts a whole number within the inclusive bounds. `60000.0` and `6e4` are whole numbers too.
pub(super) fn whole(node: Option<&Node<'_>>, bounds: (u64, u64), path: &Path<'_>, faults: &mut Faults) -> Option<u64> {
    let (least, most) = bounds;
    match node? {
        Node::Number(number) => {
            let value = whole_value(number).filter(|value| (least..=most).contains(value));
            if value.is_none() {
                faults.add(path, format!("must be a whole number from {least} to {most}"));
            }
            value
        }
        other => {
            faults.add(path, format!("must be a whole number, not {}", other.kind()));
            None
        }
    }
}

fn whole_value(number: &Number) -> Option<u64> {
    /// Above 2^53, a float cannot represent every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_u64().or_else(|| {
        let value = number.as_f64().filter(|value| (0.0..EXACT).contains(value) && value.fract() == 0.0)?;
        format!("{value:.0}").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pointers_are_escaped() {
        let root = Path::Root;
        let odd = root.key("a/b~c");
        assert_eq!(odd.index(3).pointer(), "/a~1b~0c/3");
        assert_eq!(root.key("").pointer(), "/");
        assert_eq!(root.pointer(), "");
    }

    #[test]
    fn faults_come_in_the_order_of_the_document_and_missing_ones_last() {
        let root = Node::parse(r#"{"b":{"y":1,"x":[1,2]},"a":1}"#, 8).unwrap();
        let mut faults = Faults::default();
        let (r, b) = (Path::Root, Path::Key(&Path::Root, "b"));
        let x = b.key("x");
        for path in [r.key("gone"), r.key("a"), x.index(1), x.index(0), b.key("y"), b, r] {
            faults.add(&path, "");
        }
        let order: Vec<_> = faults.into_sorted(&root).into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(order, ["", "/b", "/b/y", "/b/x/0", "/b/x/1", "/a", "/gone"]);
    }

    #[test]
    fn suggestions_are_close_ones_only() {
        let names = ["caller_id", "phone_number", "email", "run_at"];
        for (text, name) in
            [("callerId", "caller_id"), ("phone", "phone_number"), ("Email", "email"), ("runAt", "run_at")]
        {
            assert_eq!(nearest(text, names.into_iter()), Some(name));
        }
        assert_eq!(nearest("zzz", names.into_iter()), None);
        assert_eq!(nearest(&"email".repeat(100), names.into_iter()), None);
    }

    #[test]
    fn a_flood_of_faults_is_bounded() {
        let mut faults = Faults::default();
        for index in 0..10_000 {
            faults.add(&Path::Root.index(index), "x");
        }
        let list = faults.into_sorted(&Node::Null);
        assert_eq!(list.len(), MAX_FAULTS + 1);
        assert_eq!(list[MAX_FAULTS].detail, "has at least 9744 more faults, not listed");
    }
}
