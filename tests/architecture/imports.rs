//! Which file imports which, and the circles among them.
//!
//! It sees every path that begins with `crate`, `self`, `super`, a child module or a name that a `use` brings in: in `use`, in code and in
//! the arguments of macros. It follows the path to the file that owns the item, through modules, re-exports and globs: who
//! imports `super::Thing` from a parent that re-exports it imports the file of `Thing`.
//!
//! It does not see `mod`, `pub(in …)`, what stands under `#[cfg(test)]`, and what needs no path: a method whose `impl` is in
//! another file, the type of a field.

#[path = "imports_tests.rs"]
mod tests;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The segments of a path in code, or of a module's place in the crate.
type Segments = Vec<String>;

/// The files of a crate, by module.
#[derive(Debug, Default)]
pub(crate) struct Crate(BTreeMap<Segments, File>);

/// What was read of one file.
#[derive(Debug, Default)]
struct File {
    /// The names that `use` brings in, and what they stand for.
    names: BTreeMap<String, Segments>,
    globs: Vec<Segments>,
    /// The items defined in it.
    items: BTreeSet<String>,
    /// All paths but those in `use`.
    paths: BTreeSet<Segments>,
}

/// Modules that import each other, with each import in the form `a → b (path)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub(crate) modules: Vec<String>,
    pub(crate) imports: Vec<String>,
}

impl Crate {
    /// Reads all files below `root`, the folder of `lib.rs`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        super::sources(root, &mut files);
        let named = files.into_iter().map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            (file.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text)
        });
        Self::of(named)
    }

    /// The same of texts in memory, each with its path below the root.
    pub(crate) fn of<P: AsRef<str>, T: AsRef<str>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let read = files.into_iter().filter(|(path, _)| path.as_ref() != "main.rs").map(|(path, text)| {
            let mut module: Segments = path.as_ref().trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            let tokens: TokenStream =
                text.as_ref().parse().unwrap_or_else(|error| panic!("{}: {error}", path.as_ref()));
            let mut file = File::default();
            file.read(tokens, 0);
            (module, file)
        });
        Self(read.collect())
    }

    /// The groups of files in which each is reached from each other one, over imports.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let imports: BTreeMap<&Segments, BTreeMap<Segments, String>> =
            self.0.keys().map(|module| (module, self.imports(module))).collect();
        let reached: BTreeMap<&Segments, BTreeSet<&Segments>> = imports
            .keys()
            .map(|module| {
                let mut seen = BTreeSet::new();
                let mut left: Vec<&Segments> = imports[*module].keys().collect();
                while let Some(next) = left.pop() {
                    if seen.insert(next) {
                        left.extend(imports[next].keys());
                    }
                }
                (*module, seen)
            })
            .collect();
        let mut known = BTreeSet::new();
        let mut circles = Vec::new();
        for (module, reach) in &reached {
            if !reach.contains(*module) || !known.insert(*module) {
                continue;
            }
            let circle: BTreeSet<&Segments> =
                reach.iter().copied().filter(|other| reached[*other].contains(*module)).collect();
            known.extend(circle.iter().copied());
            let inside = circle.iter().flat_map(|from| imports[*from].iter().map(move |(to, path)| (*from, to, path)));
            circles.push(Circle {
                imports: inside
                    .filter(|(_, to, _)| circle.contains(to))
                    .map(|(from, to, path)| format!("{} → {} ({path})", from.join("/"), to.join("/")))
                    .collect(),
                modules: circle.into_iter().map(|module| module.join("/")).collect(),
            });
        }
        circles
    }

    /// The modules that one imports, each with a path that does so.
    fn imports(&self, module: &Segments) -> BTreeMap<Segments, String> {
        let file = &self.0[module];
        // A `use` of a whole module imports what is then named through it.
        let used = file.names.values().filter(|path| self.module(module, path).is_none());
        let whole = file.globs.iter().filter_map(|path| Some((self.module(module, path)?, path.join("::") + "::*")));
        let named = used.chain(&file.paths).filter_map(|path| Some((self.owner(module, path, 16)?, path.join("::"))));
        named.chain(whole).filter(|(owner, _)| owner != module && self.0.contains_key(owner)).collect()
    }

    /// The module in which the item of `path`, written in `from`, is defined. `None` where it is another crate's.
    fn owner(&self, from: &Segments, path: &[String], steps_left: u8) -> Option<Segments> {
        let steps_left = steps_left.checked_sub(1)?;
        let (module, rest) = self.walk(from, path)?;
        let (Some(file), [name, below @ ..]) = (self.0.get(&module), rest) else { return Some(module) };
        if file.items.contains(name) {
            return Some(module);
        }
        if let Some(path) = file.names.get(name) {
            let whole: Segments = path.iter().chain(below).cloned().collect();
            return self.owner(&module, &whole, steps_left);
        }
        let through = file.globs.iter().filter_map(|glob| self.module(&module, glob));
        through
            .filter(|target| *target != module && self.0.get(target).is_some_and(|file| file.knows(name)))
            .find_map(|target| {
                let whole: Segments = std::iter::once("self".to_owned()).chain(rest.iter().cloned()).collect();
                self.owner(&target, &whole, steps_left)
            })
            .or_else(|| (rest.len() < path.len()).then_some(module))
    }

    /// The module that `path` names as a whole.
    fn module(&self, from: &Segments, path: &[String]) -> Option<Segments> {
        let (module, rest) = self.walk(from, path)?;
        rest.is_empty().then_some(module)
    }

    /// As far along `path` as modules go, and what is left of it.
    fn walk<'p>(&self, from: &Segments, path: &'p [String]) -> Option<(Segments, &'p [String])> {
        let mut rest = path;
        let mut module = from.clone();
        match rest.first()?.as_str() {
            "crate" => (module, rest) = (Segments::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while let [first, below @ ..] = rest
                    && first == "super"
                {
                    module.pop()?;
                    rest = below;
                }
            }
            name if self.0.contains_key(&child(&module, name)) => {}
            name => {
                let of_use = self.0.get(from)?.names.get(name)?;
                let known = matches!(of_use.first()?.as_str(), "crate" | "self" | "super")
                    || self.0.contains_key(&child(from, &of_use[0]));
                return if known { Some((module, rest)) } else { None };
            }
        }
        while let [name, below @ ..] = rest
            && self.0.contains_key(&child(&module, name))
        {
            module = child(&module, name);
            rest = below;
        }
        Some((module, rest))
    }
}

fn child(module: &Segments, name: &str) -> Segments {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

impl File {
    fn knows(&self, name: &str) -> bool {
        self.items.contains(name) || self.names.contains_key(name)
    }

    /// `depth`: how many inline modules are around the tokens.
    fn read(&mut self, tokens: TokenStream, depth: usize) {
        self.read_items(&tokens.into_iter().collect::<Vec<_>>(), depth, true);
    }

    fn read_items(&mut self, tokens: &[TokenTree], depth: usize, outermost: bool) {
        let mut at = 0;
        while at < tokens.len() {
            let next = tokens.get(at + 1);
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_cfg_test(next) => {
                    at += 2 + item_length(&tokens[at + 2..]);
                    continue;
                }
                TokenTree::Ident(word) if word == "pub" => {
                    if let Some(TokenTree::Group(scope)) = next
                        && scope.delimiter() == Delimiter::Parenthesis
                    {
                        at += 1;
                    }
                }
                TokenTree::Ident(word) if word == "use" => {
                    let (imports, length) = use_tree(&tokens[at + 1..], &[]);
                    for (name, path) in imports {
                        self.bring_in(name, outside_inline(path, depth), depth == 0 && outermost);
                    }
                    at += 1 + length;
                    continue;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                        self.read(body.stream(), depth + 1);
                        at += 3;
                        continue;
                    }
                    at += 1;
                }
                TokenTree::Ident(word) => {
                    if let (true, Some(TokenTree::Ident(name))) = (outermost && depth == 0 && defines(word), next) {
                        self.items.insert(name.to_string());
                    }
                    let path = plain_path(&tokens[at..]);
                    let length = path.len();
                    if length > 1 && !follows_path(tokens, at) {
                        self.paths.insert(outside_inline(path, depth));
                        at += 3 * (length - 1);
                    }
                }
                TokenTree::Group(group) => self.read_items(&stream(group), depth, false),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    /// Notes a `use`. One within a function or an inline module brings nothing into the file's module.
    fn bring_in(&mut self, name: String, path: Segments, into_module: bool) {
        if name == "*" {
            self.globs.push(path);
        } else if into_module {
            self.names.insert(name, path);
        } else {
            self.names.entry(name).or_insert(path);
        }
    }
}

fn stream(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// `[cfg(test)]`, after its `#`.
fn is_cfg_test(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// How many tokens the next item (or field, or arm) has.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => matches!(punct.as_char(), ';' | ','),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

fn defines(word: &proc_macro2::Ident) -> bool {
    ["struct", "enum", "union", "trait", "fn", "const", "static", "type"].iter().any(|keyword| word == keyword)
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(tokens.first()) && colon(tokens.get(1))
}

/// The identifiers joined by `::` at the beginning.
fn plain_path(tokens: &[TokenTree]) -> Segments {
    let mut path = Segments::new();
    let mut rest = tokens;
    while let Some(TokenTree::Ident(name)) = rest.first() {
        path.push(name.to_string());
        match rest.get(1..) {
            Some(more) if is_colons(more) => rest = &more[2..],
            _ => break,
        }
    }
    path
}

/// Whether the token is the continuation of a path (`Vec::<u8>::new`), or a method's or field's name.
fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colons(&tokens[at - 2..at])
        || at >= 1 && matches!(&tokens[at - 1], TokenTree::Punct(p) if p.as_char() == '.')
}

/// The imports of a use tree, each with the name it brings in (`*` for all), and the length of the tree in tokens.
fn use_tree(tokens: &[TokenTree], prefix: &[String]) -> (Vec<(String, Segments)>, usize) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => {
                path.push(name.to_string());
                at += 1;
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => return (vec![("*".to_owned(), path)], at + 1),
            Some(TokenTree::Group(group)) => return (use_group(&stream(group), &path), at + 1),
            _ => break,
        }
        if !tokens.get(at..).is_some_and(is_colons) {
            break;
        }
        at += 2;
    }
    let Some(last) = path.last().cloned() else { return (Vec::new(), at) };
    if last == "self" && path.len() > 1 {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or(last);
    if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(other))) = (tokens.get(at), tokens.get(at + 1))
        && word == "as"
    {
        name = other.to_string();
        at += 2;
    }
    (vec![(name, path)], at)
}

fn use_group(tokens: &[TokenTree], prefix: &[String]) -> Vec<(String, Segments)> {
    let mut imports = Vec::new();
    for tree in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
        if !tree.is_empty() {
            imports.extend(use_tree(tree, prefix).0);
        }
    }
    imports
}

/// The path as it would stand in the file's module: each inline module around it takes one `super`.
fn outside_inline(mut path: Segments, depth: usize) -> Segments {
    if depth > 0 && path[0] == "super" {
        let supers = path.iter().take_while(|name| *name == "super").count().min(depth);
        path.splice(..supers, (supers == depth).then(|| "self".to_owned()));
    }
    if path.len() > 2 && path[0] == "self" && path[1] == "super" {
        path.remove(0);
    }
    path
}
