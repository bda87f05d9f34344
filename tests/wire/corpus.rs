//! The fuzz corpus of the central protocol, replayed on every run as it is and with random changes.

use std::path::Path;

use farmhand::central::exercise;
use proptest::prelude::*;
use proptest::sample::Index;

/// Every input of one target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let inputs: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
    assert!(inputs.len() >= 4, "{} holds {} inputs", folder.display(), inputs.len());
    inputs
}

#[test]
fn the_corpus_breaks_nothing() {
    corpus("central_frame").iter().for_each(|input| exercise::frames(input));
    corpus("central_envelope").iter().for_each(|input| exercise::envelope(input));
    corpus("central_session").iter().for_each(|input| exercise::session(input));
}

/// Two inputs of a target, cut and joined, with some bytes overwritten.
fn crossed(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let inputs = corpus(target);
    let pick = || prop::sample::select(inputs.clone());
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    (pick(), pick(), any::<Index>(), any::<Index>(), changes).prop_map(|(first, second, until, from, changes)| {
        let mut input = first[..until.index(first.len() + 1)].to_vec();
        input.extend(&second[from.index(second.len() + 1)..]);
        for (at, byte) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        input
    })
}

proptest! {
    #[test]
    fn changed_frames_break_nothing(input in crossed("central_frame")) {
        exercise::frames(&input);
    }

    #[test]
    fn changed_envelopes_break_nothing(input in crossed("central_envelope")) {
        exercise::envelope(&input);
    }

    #[test]
    fn changed_sessions_break_nothing(input in crossed("central_session")) {
        exercise::session(&input);
    }
}
