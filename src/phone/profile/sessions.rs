//! Install sessions that are open on a phone, and whose they are.

/// The user id of Android's shell, as which ADB installs.
const SHELL: [&str; 2] = ["mOriginalInstallerUid=2000", "mInstallerUid=2000"];

/// The sessions that the shell has open, in the output of `dumpsys package installs`. Those that wait for a restart of the phone are not
/// among them: they are finished.
#[must_use]
pub fn open(dumpsys: &str) -> Vec<u64> {
    let mut lines = dumpsys.lines().skip_while(|line| line.trim() != "Active install sessions:");
    lines.next();
    let mut sessions = Vec::new();
    let mut current = None;
    for line in lines.map(str::trim).take_while(|line| !line.starts_with("Historical install sessions")) {
        let number = line.strip_prefix("Session ").and_then(|rest| rest.strip_suffix(':'));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            sessions.extend(current.replace((number, false, false)).and_then(ours));
        } else if let Some((_, of_shell, is_staged)) = &mut current {
            let mut words = line.split_whitespace();
            *of_shell |= words.clone().any(|word| SHELL.contains(&word));
            *is_staged |= words.any(|word| word == "isStaged=true");
        }
    }
    sessions.extend(current.and_then(ours));
    sessions
}

fn ours((number, of_shell, is_staged): (u64, bool, bool)) -> Option<u64> {
    (of_shell && !is_staged).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INSTALLS: &str = "Active install sessions:\n  Session 1001:\n    userId=0 mOriginalInstallerUid=2000 mInstallerUid=2000\n    \
        mode=1 isStaged=false\n\n  Session 1002:\n    userId=0 mOriginalInstallerUid=10057\n\n  Session 1003:\n    \
        mInstallerUid=2000 isStaged=true\n\nHistorical install sessions:\n  Session 900:\n    mInstallerUid=2000\n";

    #[test]
    fn only_open_sessions_of_the_shell_are_ours() {
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
