//! Install sessions that are open on a phone, and whose they are.

use crate::adb::services::install::SESSION_MARK;

/// The user id of Android's shell, as which ADB installs.
const SHELL: [&str; 2] = ["mOriginalInstallerUid=2000", "mInstallerUid=2000"];

/// What was read of a session.
#[derive(Default)]
struct Session {
    number: u64,
    of_shell: bool,
    is_marked: bool,
    is_staged: bool,
}

/// The sessions that farmhand has open as the shell, by their mark, in the output of `dumpsys package installs`. Another host of the same
/// phone may be at work in the others. Those that wait for a restart of the phone are not
/// among them: they are finished.
#[must_use]
pub fn open(dumpsys: &str) -> Vec<u64> {
    let mut lines = dumpsys.lines().skip_while(|line| line.trim() != "Active install sessions:");
    lines.next();
    let mut sessions = Vec::new();
    let mut current: Option<Session> = None;
    for line in lines.map(str::trim).take_while(|line| !line.starts_with("Historical install sessions")) {
        let number = line.strip_prefix("Session ").and_then(|rest| rest.strip_suffix(':'));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            sessions.extend(current.replace(Session { number, ..Session::default() }).and_then(ours));
        } else if let Some(session) = &mut current {
            for word in line.split_whitespace() {
                session.of_shell |= SHELL.contains(&word);
                session.is_marked |= word.strip_prefix("referrerUri=") == Some(SESSION_MARK);
                session.is_staged |= word == "isStaged=true";
            }
        }
    }
    sessions.extend(current.and_then(ours));
    sessions
}

fn ours(session: Session) -> Option<u64> {
    (session.of_shell && session.is_marked && !session.is_staged).then_some(session.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INSTALLS: &str = "Active install sessions:\n  Session 1001:\n    userId=0 mOriginalInstallerUid=2000 mInstallerUid=2000\n    \
        mode=1 referrerUri=farmhand:install isStaged=false\n\n  Session 1002:\n    userId=0 mOriginalInstallerUid=10057 \
        referrerUri=farmhand:install\n\n  Session 1003:\n    mInstallerUid=2000 referrerUri=farmhand:install isStaged=true\n\n  \
        Session 1004:\n    mInstallerUid=2000 referrerUri=null isStaged=false\n\nHistorical install sessions:\n  Session 900:\n    mInstallerUid=2000\n";

    #[test]
    fn only_open_sessions_of_the_shell_with_our_mark_are_ours() {
        assert_eq!(open(INSTALLS), [1001]);
        for none in
            ["", "Can't find service: package\n", "Active install sessions:\n", "Session 7:\n mInstallerUid=2000\n"]
        {
            assert_eq!(open(none), [0_u64; 0], "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(?s).{0,300}") {
            let _ = open(&format!("Active install sessions:\n{text}"));
        }
    }
}
