//! What a person reads when something is wrong, and the exit code that a program sees.

use crate::desk::{Fixture, farmhand};

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let state = tempfile::tempdir().unwrap();
    let said = farmhand(state.path(), &["phones"]);
    insta::assert_snapshot!("no_daemon", said.redacted(state.path()));
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_no_daemon() {
    let state = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(state.path().join("farmhand.sock")).unwrap());
    let said = farmhand(state.path(), &["status"]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("no farmhand runs on"), "{}", said.err);
}

#[test]
fn an_unknown_name_is_answered_with_a_near_one() {
    let desk = Fixture::of_rack();
    for command in
        [&["phone", "a1", "show"][..], &["hub", "H3", "show"], &["rollout", "show", "R22"], &["line", "x/../y"]]
    {
        let said = desk.farmhand(command);
        insta::assert_snapshot!(format!("unknown_{}", command[0]), said.redacted(desk.state.path()));
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let state = tempfile::tempdir().unwrap();
    for command in [&["fones"][..], &["hub", "H1", "port", "0", "off"], &["hub", "H1", "port", "3", "biased"], &[]] {
        assert_eq!(farmhand(state.path(), command).code, 2, "{command:?}");
    }
}
