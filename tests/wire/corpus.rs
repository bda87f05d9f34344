//! The fuzz corpus of the central protocol, replayed on every run.

use std::path::Path;

use farmhand::central::exercise;

/// Every input of one target.
fn replay(target: &str, exercise: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut replayed = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        exercise(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 4, "{} holds {replayed} inputs", folder.display());
}

#[test]
fn frames() {
    replay("central_frame", exercise::frames);
}

#[test]
fn envelopes() {
    replay("central_envelope", exercise::envelope);
}

#[test]
fn sessions() {
    replay("central_session", exercise::session);
}
