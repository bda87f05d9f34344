//! A table of the file, read key by key: what is asked for is what is allowed, so no list of keys is kept beside the code.
//!
//! Nothing here stops at the first problem. A key that cannot be read is noted and treated as absent; a key that nobody asked
//! for is noted by [`Section::finish`] with the nearest one that somebody did.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use crate::spelling;

/// What was noticed while a file was read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    /// The keys that were typed, as `section.key`.
    pub(super) given: BTreeSet<String>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Typed<T> {
    pub(super) value: T,
    pub(super) at: Range<usize>,
}

/// A value that cannot stand where it was typed.
pub(super) struct Unfit {
    pub(super) at: Range<usize>,
    /// What may stand there, as a phrase: `a whole number from 1 to 600`.
    pub(super) expected: String,
}

pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// How a section's name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brackets {
    Single,
    Double,
}

impl Brackets {
    fn around(self, name: &str) -> String {
        match self {
            Self::Single => format!("[{name}]"),
            Self::Double => format!("[[{name}]]"),
        }
    }
}

/// How a value was written, if it is a section.
fn section_of(value: &Value<'_>) -> Option<Brackets> {
    match value.get_ref() {
        DeValue::Table(_) => Some(Brackets::Single),
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => Some(Brackets::Double),
        _ => None,
    }
}

/// One table of the file.
pub(super) struct Section<'d, 'n> {
    /// As a person writes it: `[central]`.
    header: String,
    /// As a key: `central`.
    path: String,
    at: Range<usize>,
    values: BTreeMap<&'d str, (Range<usize>, &'d Value<'d>)>,
    asked: Vec<&'static str>,
    /// Those of them that are sections of their own.
    sections: BTreeMap<&'static str, Brackets>,
    notes: &'n RefCell<Notes>,
}

impl<'d, 'n> Section<'d, 'n> {
    /// The whole file.
    pub(super) fn root(table: &'d Spanned<DeTable<'d>>, notes: &'n RefCell<Notes>) -> Self {
        Self::new("the file".to_owned(), String::new(), 0..0, table.get_ref(), notes)
    }

    fn new(header: String, path: String, at: Range<usize>, table: &'d DeTable<'d>, notes: &'n RefCell<Notes>) -> Self {
        let values =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value))).collect::<BTreeMap<_, _>>();
        Self { header, path, at, values, asked: Vec::new(), sections: BTreeMap::new(), notes }
    }

    /// Where the table begins.
    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Where the value of `key` stands, whether or not it can be read.
    pub(super) fn typed(&self, key: &str) -> Option<Range<usize>> {
        self.values.get(key).map(|(_, value)| value.span())
    }

    /// Whether a table stands under `key`.
    pub(super) fn is_section(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, value)| value.get_ref().is_table())
    }

    /// The value of `key` where it was typed and can be read.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'d>) -> Result<T, Unfit>,
    ) -> Option<Typed<T>> {
        let (_, value) = self.ask(key)?;
        match read(value) {
            Ok(read) => Some(Typed { value: read, at: value.span() }),
            Err(unfit) => {
                let what = format!("`{key}` in {} must be {}", self.header, unfit.expected);
                self.complain(Problem::new("config.bad_value", unfit.at, what, format!("write {}", unfit.expected)));
                None
            }
        }
    }

    /// As [`Self::optional`]; its absence is a problem, for which `example` says what to write.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'d>) -> Result<T, Unfit>,
    ) -> Option<Typed<T>> {
        if !self.values.contains_key(key) {
            self.asked.push(key);
            self.missing(&format!("{} needs `{key}`", self.header), &format!("write {key} = {example}"));
            return None;
        }
        self.optional(key, read)
    }

    /// Notes that the table lacks something.
    pub(super) fn missing(&self, what: &str, help: &str) {
        self.complain(Problem::new("config.missing_key", self.at(), what, help));
    }

    /// The table under `key`, such as `[central]`.
    pub(super) fn child(&mut self, key: &'static str) -> Option<Section<'d, 'n>> {
        self.sections.insert(key, Brackets::Single);
        let (_, value) = self.ask(key)?;
        let path = self.join(key);
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Section::new(format!("[{path}]"), path, value.span(), table, self.notes));
        }
        let seen = value.get_ref().type_str();
        let what = format!("`{path}` is a table, but {seen} was written");
        self.complain(Problem::new(
            "config.bad_value",
            value.span(),
            what,
            format!("write [{path}], its keys below it"),
        ));
        None
    }

    /// The tables under `key`, such as each `[[slot]]`.
    pub(super) fn children(&mut self, key: &'static str) -> Vec<Section<'d, 'n>> {
        self.sections.insert(key, Brackets::Double);
        let Some((at, value)) = self.ask(key) else { return Vec::new() };
        let path = self.join(key);
        let tables = match value.get_ref() {
            DeValue::Array(array) => array.iter().map(|item| (item.get_ref().as_table(), item.span())).collect(),
            _ => vec![(None, at)],
        };
        let mut sections = Vec::new();
        for (table, at) in tables {
            match table {
                Some(table) => {
                    sections.push(Section::new(format!("[[{path}]]"), path.clone(), at, table, self.notes));
                }
                None => self.complain(Problem::new(
                    "config.bad_value",
                    at,
                    format!("there may be several of `{path}`, so it is written in double brackets"),
                    format!("write [[{path}]], its keys below it"),
                )),
            }
        }
        sections
    }

    /// Every key of a table whose keys are the owner's, with its text.
    pub(super) fn texts(self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, (_, value)) in &self.values {
            match value.get_ref().as_str() {
                Some(text) => {
                    texts.insert((*key).to_owned(), text.to_owned());
                }
                None => self.complain(Problem::new(
                    "config.bad_value",
                    value.span(),
                    format!("`{key}` in {} must be a text", self.header),
                    "write it in quotes",
                )),
            }
        }
        texts
    }

    /// Notes each key of a table whose keys are the owner's that is none; `help` says what may stand there.
    pub(super) fn refuse_keys(&self, fits: impl Fn(&str) -> bool, help: &str) {
        for (key, (at, _)) in self.values.iter().filter(|(key, _)| !fits(key)) {
            let what = format!("{} has no key `{key}`", self.header);
            self.complain(Problem::new("config.unknown_key", at.clone(), what, help));
        }
    }

    /// Every key of a table whose keys are the owner's, with what `read` makes of its value.
    pub(super) fn owners<T>(self, read: impl Fn(&Value<'d>) -> Result<T, Unfit>) -> BTreeMap<String, T> {
        let mut owners = BTreeMap::new();
        for (key, (_, value)) in &self.values {
            match read(value) {
                Ok(read) => drop(owners.insert((*key).to_owned(), read)),
                Err(unfit) => {
                    let what = format!("`{key}` in {} must be {}", self.header, unfit.expected);
                    let help = format!("write {}", unfit.expected);
                    self.complain(Problem::new("config.bad_value", unfit.at, what, help));
                }
            }
        }
        owners
    }

    /// Notes each key that was typed and is not known.
    pub(super) fn finish(self) {
        for (key, (at, value)) in &self.values {
            if self.asked.contains(key) {
                continue;
            }
            let problem = match section_of(value) {
                Some(brackets) => self.unknown_section(key, brackets, at.clone()),
                None => self.unknown_key(key, at.clone()),
            };
            self.complain(problem);
        }
    }

    fn unknown_key(&self, key: &str, at: Range<usize>) -> Problem {
        let keys = self.asked_for(|asked| !self.sections.contains_key(asked));
        let help = match spelling::nearest(key, keys.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Known here: {}", keys.join(", ")),
            None if keys.is_empty() => "no key stands here, only sections do".to_owned(),
            None => format!("known here: {}", keys.join(", ")),
        };
        Problem::new("config.unknown_key", at, format!("{} has no key `{key}`", self.header), help)
    }

    fn unknown_section(&self, name: &str, brackets: Brackets, at: Range<usize>) -> Problem {
        let headers: Vec<String> =
            self.sections.iter().map(|(name, brackets)| brackets.around(&self.join(name))).collect();
        let near = spelling::nearest(name, self.sections.keys().copied());
        let near = near.and_then(|near| Some(self.sections.get(near)?.around(&self.join(near))));
        let help = match near {
            Some(near) => format!("did you mean {near}? Sections: {}", headers.join(", ")),
            None if headers.is_empty() => format!("no section stands below {}", self.header),
            None => format!("sections: {}", headers.join(", ")),
        };
        let what = format!("there is no section {}", brackets.around(&self.join(name)));
        Problem::new("config.unknown_section", at, what, help)
    }

    fn asked_for(&self, wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
        self.asked.iter().copied().filter(|asked| wanted(asked)).collect()
    }

    pub(super) fn complain(&self, problem: Problem) {
        self.notes.borrow_mut().problems.push(problem);
    }

    fn ask(&mut self, key: &'static str) -> Option<(Range<usize>, &'d Value<'d>)> {
        self.asked.push(key);
        let found = self.values.get(key).cloned()?;
        self.notes.borrow_mut().given.insert(self.join(key));
        Some(found)
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
