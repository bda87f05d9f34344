//! A command line as `sh` reads it, as far as hosts of phones need: words, quotes, `;`, `&&`, `||`, and `/dev/null`. What they make up
//! together is in `script.rs`.

use std::iter::Peekable;
use std::str::Chars;

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word without quotes, which may be one of the grammar's.
    Plain(String),
    /// A word with quotes.
    Quoted(String),
    /// What stands between two commands.
    Then(When),
    /// Where input or output goes.
    Redirection(Redirection),
}

/// Stands for `$?` in a word: a letter of nobody's alphabet.
pub(super) const LAST_CODE: char = '\u{f8ff}';

/// Where input and output of a command go, in the order of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirection {
    /// `</dev/null`
    NoStdin,
    /// `>/dev/null`
    DropStdout,
    /// `2>/dev/null`
    DropStderr,
    /// `2>&1`
    StderrToStdout,
    /// `>&2`
    StdoutToStderr,
}

/// Whether a command runs, given how the one before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    AfterSuccess,
    AfterFailure,
}

/// Why a line can't be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    /// A quote that never ends.
    #[error("/system/bin/sh: no closing quote")]
    OpenQuote,
    /// What a real phone could and this one can't: said openly, since a wrong guess would mislead.
    #[error("/system/bin/sh: this virtual phone knows no `{0}`")]
    Unsupported(String),
    /// A word of the grammar where none can be, or none where one must be.
    #[error("/system/bin/sh: syntax error: unexpected '{0}'")]
    Unexpected(String),
}

fn unsupported(letter: char) -> BadLine {
    BadLine::Unsupported(letter.to_string())
}

/// A word that is being read.
#[derive(Default)]
struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn token(self) -> Token {
        if self.quoted { Token::Quoted(self.text) } else { Token::Plain(self.text) }
    }
}

/// Splits a line into its parts.
pub(super) fn split(line: &str) -> Result<Vec<Token>, BadLine> {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                quoted(&mut letters, &mut word.text)?;
            }
            '"' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                double_quoted(&mut letters, &mut word.text)?;
            }
            '\\' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                word.text.extend(letters.next());
            }
            '<' | '>' => {
                let redirection = redirection(letter, &mut word, &mut letters)?;
                tokens.extend(word.take().map(Word::token));
                tokens.push(Token::Redirection(redirection));
            }
            ' ' | '\t' | '\r' | ';' | '\n' | '&' | '|' => {
                tokens.extend(word.take().map(Word::token));
                let when = match letter {
                    ';' | '\n' => When::Always,
                    '&' if letters.next_if_eq(&'&').is_some() => When::AfterSuccess,
                    '|' if letters.next_if_eq(&'|').is_some() => When::AfterFailure,
                    '&' | '|' => return Err(unsupported(letter)),
                    _ => continue,
                };
                tokens.push(Token::Then(when));
            }
            '$' if letters.next_if_eq(&'?').is_some() => word.get_or_insert_default().text.push(LAST_CODE),
            '(' | ')' | '`' | '$' | '*' | '?' => return Err(unsupported(letter)),
            letter => word.get_or_insert_default().text.push(letter),
        }
    }
    tokens.extend(word.map(Word::token));
    Ok(tokens)
}

/// What follows `<` or `>`; a digit before it is the end of `word`.
fn redirection(sign: char, word: &mut Option<Word>, letters: &mut Peekable<Chars<'_>>) -> Result<Redirection, BadLine> {
    let before = word.as_ref().filter(|word| !word.quoted).map(|word| word.text.as_str());
    let from = match before {
        Some("1" | "2") => word.take().map(|word| word.text),
        Some(digit) if digit.len() == 1 && digit.chars().all(|letter| letter.is_ascii_digit()) => {
            return Err(unsupported(sign));
        }
        _ => None,
    };
    while letters.next_if_eq(&' ').is_some() {}
    let mut target = String::new();
    while let Some(letter) = letters.next_if(|letter| !matches!(letter, ' ' | '\t' | '\n' | ';' | '|' | '<' | '>')) {
        target.push(letter);
    }
    match (from.as_deref(), sign, target.as_str()) {
        (None, '<', "/dev/null") => Ok(Redirection::NoStdin),
        (None | Some("1"), '>', "/dev/null") => Ok(Redirection::DropStdout),
        (Some("2"), '>', "/dev/null") => Ok(Redirection::DropStderr),
        (Some("2"), '>', "&1") => Ok(Redirection::StderrToStdout),
        (None | Some("1"), '>', "&2") => Ok(Redirection::StdoutToStderr),
        _ => Err(unsupported(sign)),
    }
}

fn quoted(letters: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), BadLine> {
    for letter in letters {
        match letter {
            '\'' => return Ok(()),
            letter => word.push(letter),
        }
    }
    Err(BadLine::OpenQuote)
}

fn double_quoted(letters: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), BadLine> {
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Ok(()),
            '$' if letters.next_if_eq(&'?').is_some() => word.push(LAST_CODE),
            '$' | '`' => return Err(unsupported(letter)),
            '\\' => match letters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                other => {
                    word.push('\\');
                    word.extend(other);
                }
            },
            letter => word.push(letter),
        }
    }
    Err(BadLine::OpenQuote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Token {
        Token::Plain(text.to_owned())
    }

    fn texts(line: &str) -> Vec<String> {
        let text = |token| match token {
            Token::Plain(text) | Token::Quoted(text) => text,
            other => format!("{other:?}"),
        };
        split(line).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(texts("cmd package  'install' '-S' '8279'"), ["cmd", "package", "install", "-S", "8279"]);
        assert_eq!(texts(r#"echo "a \"b\" 'c'" d\ e '' "#), ["echo", "a \"b\" 'c'", "d e", ""]);
        assert_eq!(texts("  "), Vec::<String>::new());
        assert_eq!(split("for 'for'"), Ok(vec![plain("for"), Token::Quoted("for".to_owned())]));
        assert_eq!(split("echo 'a"), Err(BadLine::OpenQuote));
    }

    #[test]
    fn several_commands_on_a_line() {
        use Token::Then;
        let tokens = split("a && b; c||d").unwrap();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(plain);
        assert_eq!(tokens, [a, Then(When::AfterSuccess), b, Then(When::Always), c, Then(When::AfterFailure), d]);
    }

    #[test]
    fn only_dev_null_is_redirected_to() {
        let redirections = |line: &str| -> Vec<Redirection> {
            let redirection = |token| match token {
                Token::Redirection(redirection) => Some(redirection),
                _ => None,
            };
            split(line).unwrap().into_iter().filter_map(redirection).collect()
        };
        assert_eq!(redirections("rm -f '/a' </dev/null"), [Redirection::NoStdin]);
        assert_eq!(redirections("ls 2>/dev/null >/dev/null"), [Redirection::DropStderr, Redirection::DropStdout]);
        assert_eq!(redirections("foo 2>&1 bar"), [Redirection::StderrToStdout]);
        assert_eq!(redirections("echo a >&2"), [Redirection::StdoutToStderr]);
        assert_eq!(texts("echo '2'>/dev/null"), ["echo", "2", "Redirection(DropStdout)"]);
        assert_eq!(split("echo a > /sdcard/b"), Err(unsupported('>')));
        assert_eq!(split("echo 3>/dev/null"), Err(unsupported('>')));
    }

    #[test]
    fn what_this_shell_cannot_do_is_said() {
        for (line, letter) in
            [("ls | wc", '|'), ("echo $HOME", '$'), ("ls > x", '>'), ("sleep 1 &", '&'), ("echo \"`a`\"", '`')]
        {
            assert_eq!(split(line), Err(unsupported(letter)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_split_or_refused(line in ".{0,200}") {
            let _ = split(&line);
        }

        #[test]
        fn a_quoted_word_comes_back(word in "[^']{1,50}") {
            prop_assert_eq!(texts(&format!("echo '{word}'")), ["echo".to_owned(), word]);
        }
    }
}
