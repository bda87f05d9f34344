//! A command line as `sh` reads it, as far as hosts of phones need: words, quotes, `;`, `&&`, `||`, and `/dev/null`.

use std::iter::Peekable;
use std::str::Chars;

/// One command of a line, and when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) when: When,
    pub(super) words: Vec<String>,
    pub(super) redirections: Vec<Redirection>,
}

impl Step {
    fn new(when: When) -> Self {
        Self { when, words: Vec::new(), redirections: Vec::new() }
    }
}

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
    Unsupported(char),
}

/// Splits a line into its commands.
pub(super) fn split(line: &str) -> Result<Vec<Step>, BadLine> {
    let mut steps = Vec::new();
    let mut step = Step::new(When::Always);
    let mut word: Option<String> = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let when = match letter {
            ';' | '\n' => When::Always,
            '&' if letters.next_if_eq(&'&').is_some() => When::AfterSuccess,
            '|' if letters.next_if_eq(&'|').is_some() => When::AfterFailure,
            '<' | '>' => {
                step.redirections.push(redirection(letter, &mut word, &mut letters)?);
                step.words.extend(word.take());
                continue;
            }
            '&' | '|' | '(' | ')' | '`' | '$' | '*' | '?' => return Err(BadLine::Unsupported(letter)),
            ' ' | '\t' | '\r' => {
                step.words.extend(word.take());
                continue;
            }
            '\'' => {
                quoted(&mut letters, word.get_or_insert_default())?;
                continue;
            }
            '"' => {
                double_quoted(&mut letters, word.get_or_insert_default())?;
                continue;
            }
            '\\' => {
                word.get_or_insert_default().extend(letters.next());
                continue;
            }
            letter => {
                word.get_or_insert_default().push(letter);
                continue;
            }
        };
        step.words.extend(word.take());
        steps.push(std::mem::replace(&mut step, Step::new(when)));
    }
    step.words.extend(word);
    steps.push(step);
    steps.retain(|step| !step.words.is_empty());
    Ok(steps)
}

/// What follows `<` or `>`; a digit before it is the end of `word`.
fn redirection(
    sign: char,
    word: &mut Option<String>,
    letters: &mut Peekable<Chars<'_>>,
) -> Result<Redirection, BadLine> {
    let from = match word.as_deref() {
        Some("1" | "2") => word.take(),
        Some(digit) if digit.len() == 1 && digit.chars().all(|letter| letter.is_ascii_digit()) => {
            return Err(BadLine::Unsupported(sign));
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
        _ => Err(BadLine::Unsupported(sign)),
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

fn double_quoted(letters: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), BadLine> {
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Ok(()),
            '$' | '`' => return Err(BadLine::Unsupported(letter)),
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

    fn words(line: &str) -> Vec<Vec<String>> {
        split(line).unwrap().into_iter().map(|step| step.words).collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("cmd package  'install' '-S' '8279'"), [["cmd", "package", "install", "-S", "8279"]]);
        assert_eq!(words(r#"echo "a \"b\" 'c'" d\ e '' "#), [["echo", "a \"b\" 'c'", "d e", ""]]);
        assert_eq!(words("  "), Vec::<Vec<String>>::new());
        assert_eq!(split("echo 'a"), Err(BadLine::OpenQuote));
    }

    #[test]
    fn several_commands_on_a_line() {
        let steps = split("true && echo a; false||echo b").unwrap();
        let whens: Vec<_> = steps.iter().map(|step| step.when).collect();
        assert_eq!(whens, [When::Always, When::AfterSuccess, When::Always, When::AfterFailure]);
    }

    #[test]
    fn only_dev_null_is_redirected_to() {
        let steps = split("rm -f '/a' </dev/null; ls 2>/dev/null >/dev/null; foo 2>&1 bar").unwrap();
        let all: Vec<_> = steps.iter().map(|step| (step.words.join(" "), step.redirections.clone())).collect();
        assert_eq!(
            all,
            [
                ("rm -f /a".to_owned(), vec![Redirection::NoStdin]),
                ("ls".to_owned(), vec![Redirection::DropStderr, Redirection::DropStdout]),
                ("foo bar".to_owned(), vec![Redirection::StderrToStdout]),
            ]
        );
        assert_eq!(split("echo a >&2").unwrap()[0].redirections, [Redirection::StdoutToStderr]);
        assert_eq!(split("echo a > /sdcard/b"), Err(BadLine::Unsupported('>')));
        assert_eq!(split("echo 3>/dev/null"), Err(BadLine::Unsupported('>')));
    }

    #[test]
    fn what_this_shell_cannot_do_is_said() {
        for (line, letter) in
            [("ls | wc", '|'), ("echo $HOME", '$'), ("ls > x", '>'), ("sleep 1 &", '&'), ("echo \"`a`\"", '`')]
        {
            assert_eq!(split(line), Err(BadLine::Unsupported(letter)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_split_or_refused(line in ".{0,200}") {
            let _ = split(&line);
        }

        #[test]
        fn a_quoted_word_comes_back(word in "[^']{1,50}") {
            prop_assert_eq!(words(&format!("echo '{word}'")), [["echo".to_owned(), word]]);
        }
    }
}
