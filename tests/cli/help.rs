//! Every `--help`, frozen.

use crate::desk::farmhand;

#[test]
fn every_help_text_is_as_agreed() {
    let state = tempfile::tempdir().unwrap();
    let commands: &[&[&str]] = &[
        &[],
        &["status"],
        &["phones"],
        &["phone"],
        &["phone", "A1", "show"],
        &["phone", "A1", "hold"],
        &["phone", "A1", "detach"],
        &["phone", "A1", "identity", "set"],
        &["phones", "import"],
        &["phone", "A1", "trace"],
        &["slots"],
        &["slots", "learn"],
        &["hubs"],
        &["hub"],
        &["hub", "H1", "port"],
        &["rollout"],
        &["rollout", "start"],
        &["rollout", "approve"],
        &["rollout", "show"],
        &["rollout", "watch"],
        &["rollout", "retry"],
        &["rollout", "export"],
        &["rollout", "skip"],
        &["rollout", "promote"],
        &["rollout", "abort"],
        &["rollout", "rollback"],
        &["line"],
        &["policy"],
        &["policy", "explain"],
        &["audit"],
        &["keys"],
        &["keys", "import"],
        &["tokens"],
        &["tokens", "add"],
        &["adb-server"],
        &["adb-server", "connect"],
        &["config"],
        &["config", "check"],
        &["doctor"],
        &["completions"],
        &["man"],
        &["run"],
    ];
    for command in commands {
        let said = farmhand(state.path(), &[command, &["--help"][..]].concat());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command:?}");
        let name = [&["help"], *command].concat().join("_");
        insta::assert_snapshot!(name, said.redacted(state.path()));
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let state = tempfile::tempdir().unwrap();
    assert!(farmhand(state.path(), &["man"]).out.contains(".TH farmhand 1"));
    assert_eq!(farmhand(state.path(), &["man", "--dir", "pages"]).code, 0);
    for page in ["farmhand.1", "farmhand-phones.1", "farmhand-rollout-start.1"] {
        assert!(state.path().join("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn each_shell_gets_its_completions() {
    let state = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = farmhand(state.path(), &["completions", shell]);
        assert!(said.code == 0 && said.out.contains("rollout"), "{shell}: {said:?}");
    }
}
