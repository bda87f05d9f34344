//! Diagnostics of configurations, frozen.

use std::path::Path;

use crate::desk::{Said, farmhand};

fn checked(text: &str) -> (tempfile::TempDir, Said) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("farmhand.toml"), text).unwrap();
    let said = farmhand(dir.path(), &["config", "check", "farmhand.toml"]);
    (dir, said)
}

#[test]
fn each_kind_of_problem_shows_its_line_and_what_is_allowed() {
    let cases = [
        ("unknown key", "[central]\nserver = \"centre.example:9200\"\nheartbeat = 60\n"),
        ("unknown section", "[[slots]]\nname = \"A1\"\npath = \"1-2\"\n"),
        ("bad value", "[central]\nserver = \"centre.example:9200\"\nheartbeat_s = \"60\"\n"),
        ("unknown word", "[recovery]\nmax_rung = \"reboots\"\n"),
        ("missing key", "[agent]\napk = \"agent.apk\"\n"),
        ("wave of nobody", "[rollout]\nwaves = [1, 0, 50]\n"),
        ("not toml", "[web]\nlisten = 127.0.0.1:8420\n"),
        (
            "several",
            "[[hub]]\nname = \"H1\"\ndevice = \"/dev/ttyUSB0\"\n\n[[slot]]\nname = \"A1\"\npath = \"1-2\"\nhub = \"H2\"\nport = 1\n\n\
             [[slot]]\nname = \"A1\"\nendpoint = \"tcp:localhost\"\n",
        ),
        (
            "one port for two",
            "[[hub]]\nname = \"H1\"\ndevice = \"/dev/ttyUSB0\"\n[[slot]]\nname = \"A1\"\npath = \"1-2\"\nhub = \"H1\"\nport = 1\n\
             [[slot]]\nname = \"A2\"\npath = \"1-3\"\nhub = \"H1\"\nport = 1\n",
        ),
    ];
    for (name, text) in cases {
        let (dir, said) = checked(text);
        assert_eq!(said.code, 1, "{name}");
        insta::assert_snapshot!(name.replace(' ', "_"), said.redacted(dir.path()));
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = farmhand(dir.path(), &["config", "check", "nowhere.toml"]);
    insta::assert_snapshot!("unreadable", said.redacted(dir.path()));
}

#[test]
fn the_example_passes_its_own_check() {
    let example = farmhand(Path::new("/"), &["config", "example"]).out;
    let (_dir, said) = checked(&example);
    assert_eq!((said.code, said.out.as_str()), (0, "farmhand.toml is right: 0 slots, 0 hubs.\n"), "{}", said.err);
}

#[test]
fn show_marks_defaults() {
    let (dir, _) = checked("[rack]\nname = \"rack-1\"\n[central]\nserver = \"centre.example:9200\"\ngrace_s = 30\n");
    let said = farmhand(dir.path(), &["config", "show", "farmhand.toml"]);
    insta::assert_snapshot!("show", said.redacted(dir.path()));
}

/// What is said of a configuration whose agent is this test APK, signed by `signers`.
fn checked_agent(apk: &str, signers: &str) -> Said {
    let apk = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/apks").join(apk);
    let text =
        format!("[agent]\npackage = \"org.example.agent\"\napk = \"{}\"\nsigners = [{signers}]\n", apk.display());
    checked(&text).1
}

#[test]
fn the_agents_apk_is_checked_with_the_configuration() {
    let signer = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
    let trusted = checked_agent("agent-1.apk", &format!("\"{signer}\""));
    assert_eq!(trusted.code, 0, "{trusted:?}");
    assert!(trusted.out.contains("org.example.agent 1.0 (1), signed by 1f34"), "{trusted:?}");
    assert!(trusted.out.contains("among [agent] signers"), "{trusted:?}");

    let anyone = checked_agent("agent-1.apk", "");
    assert!(anyone.code == 0 && anyone.out.contains(&format!("signers = [\"{signer}\"]")), "{anyone:?}");

    for (apk, code) in [
        ("agent-2-other-key.apk", "apk.signer"),
        ("agent-2-truncated.apk", "apk.archive"),
        ("nowhere.apk", "apk.unreadable"),
    ] {
        let refused = checked_agent(apk, &format!("\"{signer}\""));
        assert!(refused.code == 1 && refused.err.contains(code), "{refused:?}");
    }
}

#[test]
fn tls_that_cannot_work_is_said_by_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let check = |tls: &str| {
        let text = format!("[central]\nserver = \"centre.example:9200\"\n[central.tls]\n{tls}");
        std::fs::write(dir.path().join("farmhand.toml"), text).unwrap();
        farmhand(dir.path(), &["config", "check", "farmhand.toml"])
    };
    let cases = [
        ("tls both", "ca = \"ca.pem\"\npin = [\"centre.pem\"]\n"),
        ("tls half", "cert = \"rack.pem\"\n"),
        ("tls short digest", "pin = [\"00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\"]\n"),
        ("tls file", "pin = [\"nowhere.pem\"]\n"),
    ];
    for (name, tls) in cases {
        let said = check(tls);
        assert_eq!(said.code, 1, "{name}");
        insta::assert_snapshot!(name.replace(' ', "_"), said.redacted(dir.path()));
    }
}

#[test]
fn the_hosts_own_authorities_are_those_of_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[central]\nserver = \"centre.example:9200\"\n[central.tls]\n";
    std::fs::write(dir.path().join("farmhand.toml"), config).unwrap();
    let check = |roots: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.args(["config", "check", "farmhand.toml"]).current_dir(dir.path());
        let output = command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let authority = dir.path().join("ca.pem");
    firmware_tools::central::Authority::new("ours").unwrap().write(&authority).unwrap();
    assert_eq!(check(&authority), (Some(0), String::new()));
    let (code, said) = check(&dir.path().join("none.pem"));
    assert!(code == Some(1) && said.contains("tls.no_roots") && said.contains("ca-certificates"), "{said}");
}
