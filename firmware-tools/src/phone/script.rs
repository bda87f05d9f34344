//! What the words of a line make up together: lists of commands, `{ …; }` and `for … in …; do …; done`.

use std::iter::Peekable;
use std::vec;

use super::words::{self, BadLine, Redirection, Token, When};

/// Groups in groups at most.
const DEPTH_MAX: usize = 8;

/// One command of a line, and when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) when: When,
    pub(super) what: What,
    pub(super) redirections: Vec<Redirection>,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A command with its arguments.
    Words(Vec<String>),
    /// `{ …; }`
    Group(Vec<Step>),
    /// `for n in 1 2 3; do …; done`: its variable can't be asked for, since there is no `$`.
    Loop {
        /// How often.
        rounds: usize,
        /// What.
        body: Vec<Step>,
    },
}

/// Words of the grammar that only a real phone knows.
const UNKNOWN: [&str; 8] = ["if", "while", "until", "case", "select", "function", "!", "[["];

/// Reads a line.
pub(super) fn read(line: &str) -> Result<Vec<Step>, BadLine> {
    let mut reader = Reader { tokens: words::split(line)?.into_iter().peekable() };
    reader.list(None, 0)
}

struct Reader {
    tokens: Peekable<vec::IntoIter<Token>>,
}

impl Reader {
    /// The commands until this word, or until the end.
    fn list(&mut self, until: Option<&str>, depth: usize) -> Result<Vec<Step>, BadLine> {
        if depth > DEPTH_MAX {
            return Err(BadLine::Unsupported(format!("{DEPTH_MAX} groups in each other")));
        }
        let mut steps = Vec::new();
        let mut when = When::Always;
        loop {
            match self.tokens.peek() {
                None if until.is_none() => return Ok(steps),
                None => return Err(BadLine::Unexpected("EOF".to_owned())),
                Some(Token::Then(then)) => {
                    when = *then;
                    self.tokens.next();
                }
                Some(Token::Plain(word)) if Some(word.as_str()) == until => {
                    self.tokens.next();
                    return Ok(steps);
                }
                Some(_) => steps.push(self.step(std::mem::replace(&mut when, When::Always), depth)?),
            }
        }
    }

    /// One command, up to what ends it.
    fn step(&mut self, when: When, depth: usize) -> Result<Step, BadLine> {
        let what = match self.tokens.peek() {
            Some(Token::Plain(word)) if word == "{" => {
                self.tokens.next();
                What::Group(self.list(Some("}"), depth + 1)?)
            }
            Some(Token::Plain(word)) if word == "for" => self.rounds(depth)?,
            Some(Token::Plain(word)) if UNKNOWN.contains(&word.as_str()) => {
                return Err(BadLine::Unsupported(word.clone()));
            }
            Some(Token::Plain(word)) if ["}", "do", "done"].contains(&word.as_str()) => {
                return Err(BadLine::Unexpected(word.clone()));
            }
            _ => What::Words(Vec::new()),
        };
        let mut step = Step { when, what, redirections: Vec::new() };
        while let Some(token) = self.tokens.next_if(|token| !matches!(token, Token::Then(_))) {
            match (token, &mut step.what) {
                (Token::Redirection(redirection), _) => step.redirections.push(redirection),
                (Token::Plain(word) | Token::Quoted(word), What::Words(words)) => words.push(word),
                (Token::Plain(word) | Token::Quoted(word), _) => return Err(BadLine::Unexpected(word)),
                (Token::Then(_), _) => break,
            }
        }
        Ok(step)
    }

    /// `for name in words; do list; done`
    fn rounds(&mut self, depth: usize) -> Result<What, BadLine> {
        self.expect("for")?;
        let is_name = |word: &str| word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        match self.tokens.next() {
            Some(Token::Plain(name)) if is_name(&name) => {}
            other => return Err(unexpected(other)),
        }
        self.expect("in")?;
        let mut rounds = 0;
        while self.tokens.next_if(|token| matches!(token, Token::Plain(_) | Token::Quoted(_))).is_some() {
            rounds += 1;
        }
        match self.tokens.next() {
            Some(Token::Then(When::Always)) => {}
            other => return Err(unexpected(other)),
        }
        self.expect("do")?;
        let body = self.list(Some("done"), depth + 1)?;
        Ok(What::Loop { rounds, body })
    }

    fn expect(&mut self, word: &str) -> Result<(), BadLine> {
        match self.tokens.next() {
            Some(Token::Plain(seen)) if seen == word => Ok(()),
            other => Err(unexpected(other)),
        }
    }
}

fn unexpected(token: Option<Token>) -> BadLine {
    BadLine::Unexpected(match token {
        None => "EOF".to_owned(),
        Some(Token::Plain(word) | Token::Quoted(word)) => word,
        Some(Token::Then(When::Always)) => ";".to_owned(),
        Some(Token::Then(When::AfterSuccess)) => "&&".to_owned(),
        Some(Token::Then(When::AfterFailure)) => "||".to_owned(),
        Some(Token::Redirection(Redirection::NoStdin)) => "<".to_owned(),
        Some(Token::Redirection(_)) => ">".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The steps in short.
    fn shown(steps: &[Step]) -> String {
        let step = |step: &Step| {
            let when = match step.when {
                When::Always => ";",
                When::AfterSuccess => "&&",
                When::AfterFailure => "||",
            };
            let what = match &step.what {
                What::Words(words) => words.join(" "),
                What::Group(steps) => format!("{{{}}}", shown(steps)),
                What::Loop { rounds, body } => format!("{rounds}x{{{}}}", shown(body)),
            };
            let redirected = if step.redirections.is_empty() { "" } else { ">" };
            format!("{when}{what}{redirected}")
        };
        steps.iter().map(step).collect()
    }

    fn of(line: &str) -> String {
        shown(&read(line).unwrap())
    }

    #[test]
    fn commands_follow_each_other() {
        assert_eq!(of("true && echo a; false||echo b"), ";true&&echo a;false||echo b");
        assert_eq!(of("ls 2>/dev/null; ;"), ";ls>");
        assert_eq!(of(" "), "");
    }

    #[test]
    fn groups_and_rounds() {
        assert_eq!(of("{ a; b || c; } >/dev/null 2>&1 && d"), ";{;a;b||c}>&&d");
        assert_eq!(of("for n in 1 2 '3'; do a && b; done; c"), ";3x{;a&&b};c");
        assert_eq!(of("for n in; do a\ndone"), ";0x{;a}");
        assert_eq!(of("echo for } done '{'"), ";echo for } done {", "only the first word is one of the grammar's");
        assert_eq!(of("'{' a"), ";{ a");
    }

    #[test]
    fn what_is_no_sentence_is_refused() {
        for (line, unexpected) in [
            ("{ a", "EOF"),
            ("{ a; } b", "b"),
            ("a; }", "}"),
            ("done", "done"),
            ("for n; do a; done", ";"),
            ("for n in 1 2 && do a; done", "&&"),
            ("for n in 1; a; done", "a"),
            ("for a-b in 1; do a; done", "a-b"),
            ("for n in 1; do a", "EOF"),
        ] {
            assert_eq!(read(line), Err(BadLine::Unexpected(unexpected.to_owned())), "{line}");
        }
        assert_eq!(read("if true; then a; fi"), Err(BadLine::Unsupported("if".to_owned())));
        let deep = format!("{}a{}", "{ ".repeat(20), "; }".repeat(20));
        assert!(matches!(read(&deep), Err(BadLine::Unsupported(_))));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in ".{0,200}") {
            let _ = read(&line);
        }

        #[test]
        fn any_words_of_the_grammar_are_read_or_refused(
            words in prop::collection::vec(prop::sample::select(vec!["{", "}", "for", "in", "do", "done", ";", "&&", "a", "2>&1"]), 0..30),
        ) {
            let _ = read(&words.join(" "));
        }
    }
}
