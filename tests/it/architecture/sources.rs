//! The modules of a crate and which module uses which, read from its sources.
//!
//! Reads tokens, so that comments and strings are never taken for code. Modules and items under `#[cfg(test)]` are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as written in a module, resolved as far as its first segment: `super::runs::load` in `store::gates` is
/// `["store", "runs", "load"]`.
type Names = Vec<String>;

/// One file of the crate.
#[derive(Default)]
pub struct Module {
    /// The file.
    pub file: PathBuf,
    /// Its text, up to its tests.
    pub text: String,
    /// Names in the code: paths as written, imports with their whole path, and each part of these: `std::fs`, `Instant::now`, `async`.
    names: BTreeSet<String>,
    /// The string literals of its code.
    pub strings: Vec<String>,
    /// The same, without names that the module only re-exports from its own children.
    paths: BTreeSet<Names>,
    /// Imports and re-exports: name → path.
    imports: BTreeMap<String, Names>,
    /// Children that exist for tests only.
    tests: BTreeSet<String>,
}

impl Module {
    /// Whether the code names this: an identifier, or a path or part of one.
    pub fn names(&self, path: &str) -> bool {
        self.names.contains(path)
    }

    /// What follows `prefix` in the paths that the code names.
    pub fn names_after<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter_map(move |name| name.strip_prefix(prefix))
    }

    fn add(&mut self, path: &[String]) {
        for from in 0..path.len() {
            for to in from..path.len() {
                self.names.insert(path[from..=to].join("::"));
            }
        }
    }
}

/// The modules of a crate by path; the crate's root is `""`.
pub struct Crate(BTreeMap<String, Module>);

impl Crate {
    /// Reads the crate whose `lib.rs` is in `src`.
    pub fn read(src: &Path) -> Self {
        let mut all = BTreeMap::new();
        let mut open: Vec<(Names, PathBuf)> = vec![(Vec::new(), src.join("lib.rs"))];
        while let Some((path, file)) = open.pop() {
            let is_root = file.ends_with("lib.rs") || file.ends_with("mod.rs");
            let folder = if is_root { file.parent().unwrap().to_owned() } else { file.with_extension("") };
            let children = children(&folder);
            let text = fs::read_to_string(&file).unwrap();
            let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let text = text.split("#[cfg(test)]\nmod").next().unwrap().to_owned();
            let mut module = Module { file, text, ..Module::default() };
            Reader { path: &path, children: &children, module: &mut module }.read(tokens);
            for (name, file) in children {
                if !module.tests.contains(&name) {
                    open.push((path.iter().cloned().chain([name]).collect(), file));
                }
            }
            all.insert(path.join("::"), module);
        }
        Self(all)
    }

    /// The modules with their paths.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.0.iter().map(|(path, module)| (path.as_str(), module))
    }

    /// The modules that a module uses, itself left out. A name that a module re-exports leads to where it is defined.
    pub fn used_by(&self, path: &str) -> BTreeSet<String> {
        let all = self.0[path].paths.iter().map(|names| self.home(names, 0));
        all.filter(|used| used != path && !used.is_empty()).collect()
    }

    /// The module in which the last name of a path is defined, as far as the sources say.
    fn home(&self, names: &[String], followed: usize) -> String {
        let mut at = 0;
        while at < names.len() && self.0.contains_key(&names[..=at].join("::")) {
            at += 1;
        }
        let module = names[..at].join("::");
        match names.get(at).and_then(|name| self.0[&module].imports.get(name)) {
            Some(import) if followed < 8 => self.home(&[import.as_slice(), &names[at + 1..]].concat(), followed + 1),
            _ => module,
        }
    }

    /// Groups of modules that use each other, each group sorted, with more than one member.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&str, BTreeSet<String>> =
            self.0.keys().map(|path| (path.as_str(), self.reach(path))).collect();
        let mut found = BTreeSet::new();
        for (path, reached) in &reach {
            if reached.contains(*path) {
                let circle: Vec<String> =
                    reached.iter().filter(|to| reach[to.as_str()].contains(*path)).cloned().collect();
                found.insert(circle);
            }
        }
        found.into_iter().collect()
    }

    fn reach(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(path) = open.pop() {
            open.extend(self.used_by(&path).into_iter().filter(|next| reached.insert(next.clone())));
        }
        reached
    }
}

/// Modules below a folder: name → file.
fn children(folder: &Path) -> BTreeMap<String, PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let file = if path.is_dir() { path.join("mod.rs") } else { path };
        let is_module = file.extension().is_some_and(|ext| ext == "rs") && !["mod", "lib", "main"].contains(&&*name);
        if is_module && file.is_file() {
            found.insert(name, file);
        }
    }
    found
}

struct Reader<'a> {
    path: &'a Names,
    children: &'a BTreeMap<String, PathBuf>,
    module: &'a mut Module,
}

impl Reader<'_> {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.one(&tokens, at);
        }
    }

    /// Reads the item that begins at token `at`, and returns the position after it.
    fn one(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        if let Some(attribute) = attribute(tokens, at) {
            if attribute.starts_with("cfg(test") || attribute.starts_with("cfg (test") {
                return self.skip_test(tokens, at + 2);
            }
            return at + 2;
        }
        match &tokens[at] {
            TokenTree::Group(group) => {
                self.read(group.stream());
                at + 1
            }
            TokenTree::Ident(ident) if ident == "use" => {
                let end = (at..tokens.len()).find(|at| is_punct(&tokens[*at], ';')).unwrap_or(tokens.len());
                let is_public = at > 0 && is_visibility(tokens, at - 1);
                let mut leaves = Vec::new();
                tree(&tokens[at + 1..end], &mut Vec::new(), &mut leaves);
                for (names, alias) in leaves {
                    self.import(&names, alias, is_public);
                }
                end + 1
            }
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let continues = at > 1 && is_punct(&tokens[at - 1], ':') && is_punct(&tokens[at - 2], ':');
                if continues {
                    return at + 1;
                }
                let mut names = vec![name];
                let mut end = at;
                while is_path(tokens, end)
                    && let Some(TokenTree::Ident(next)) = tokens.get(end + 3)
                {
                    names.push(next.to_string());
                    end += 3;
                }
                self.module.add(&names);
                if names.len() > 1
                    && let Some(names) = self.absolute(&names)
                {
                    self.module.paths.insert(names);
                }
                at + 1
            }
            TokenTree::Literal(literal) => {
                self.module.strings.push(literal.to_string());
                at + 1
            }
            TokenTree::Punct(_) => at + 1,
        }
    }

    fn import(&mut self, names: &[String], alias: String, is_public: bool) {
        self.module.add(names);
        let Some(names) = self.absolute(names) else { return };
        let is_child = names.len() > self.path.len()
            && names.starts_with(self.path)
            && self.children.contains_key(&names[self.path.len()]);
        if !(is_public && is_child) {
            self.module.paths.insert(names.clone());
        }
        self.module.imports.insert(alias, names);
    }

    /// The path from the crate's root; nothing when it leads into another crate or is no module's.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let mut base = self.path.clone();
        let mut rest = names;
        match names[0].as_str() {
            "crate" => (base, rest) = (Vec::new(), &names[1..]),
            "self" => rest = &names[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.children.contains_key(child) => {}
            _ => return None,
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// Skips the item of a `#[cfg(test)]`, with further attributes before it.
    fn skip_test(&mut self, tokens: &[TokenTree], mut at: usize) -> usize {
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) if ident == "mod" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                        self.module.tests.insert(name.to_string());
                    }
                }
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return at + 1,
                token if is_punct(token, ';') => return at + 1,
                _ => {}
            }
            at += 1;
        }
        at
    }
}

/// The leaves of a use tree, each with the name that it gets.
fn tree(tokens: &[TokenTree], prefix: &mut Names, leaves: &mut Vec<(Names, String)>) {
    let mut at = 0;
    while at < tokens.len() {
        let mut names = prefix.clone();
        let mut alias = None;
        while at < tokens.len() && !is_punct(&tokens[at], ',') {
            match &tokens[at] {
                TokenTree::Ident(ident) if ident == "as" => {
                    alias = tokens.get(at + 1).map(ToString::to_string);
                    at += 1;
                }
                TokenTree::Ident(ident) => names.push(ident.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    tree(&inner, &mut names, leaves);
                    names.clear();
                }
                token if is_punct(token, '*') => alias = Some("*".to_owned()),
                _ => {}
            }
            at += 1;
        }
        at += 1;
        if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
            names.pop();
        }
        if let Some(last) = names.last().cloned() {
            leaves.push((names, alias.unwrap_or(last)));
        }
    }
}

/// The content of an outer or inner attribute at `at`; it takes up two tokens from `at` (an inner one's `!` is left to be read as such).
fn attribute(tokens: &[TokenTree], at: usize) -> Option<String> {
    match (&tokens[at], tokens.get(at + 1)) {
        (token, Some(TokenTree::Group(group))) if is_punct(token, '#') && group.delimiter() == Delimiter::Bracket => {
            Some(group.stream().to_string())
        }
        _ => None,
    }
}

fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| tokens.get(at).is_some_and(|token| is_punct(token, ':'));
    colon(at + 1) && colon(at + 2)
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

/// Whether a visibility ends at `at`: `pub`, or `pub(crate)` and the like.
fn is_visibility(tokens: &[TokenTree], at: usize) -> bool {
    let is_pub = |at: usize| matches!(&tokens[at], TokenTree::Ident(ident) if ident == "pub");
    match &tokens[at] {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis && at > 0 && is_pub(at - 1),
        _ => is_pub(at),
    }
}
