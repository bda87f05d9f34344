//! The corpus of the fuzz targets and some noise, on every run of the tests.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic")]

use std::path::Path;

use handset::exercise;
use proptest::prelude::*;

/// Runs a target on each file of its corpus; there is at least one.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        run(&std::fs::read(file.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "{target} has no corpus");
}

#[test]
fn the_corpus_breaks_nothing() {
    replay("handset_connection", exercise::connection);
    replay("handset_messages", exercise::messages);
    replay("handset_names", exercise::names);
    replay("handset_sync", exercise::sync);
    replay("handset_lz4", exercise::lz4);
    replay("handset_transfers", exercise::transfers);
}

proptest! {
    #[test]
    fn noise_breaks_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise::messages(&bytes);
        exercise::names(&bytes);
        exercise::sync(&bytes);
    }

    #[test]
    fn nearly_right_requests_break_nothing(requests in prop::collection::vec(request(), 0..12)) {
        exercise::sync(&requests.concat());
    }
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let ids = ["STAT", "LST2", "STA2", "LIST", "LIS2", "SEND", "SND2", "RECV", "RCV2", "DATA", "DONE", "QUIT"];
    let arguments = ["/sdcard/x,33188", "/sdcard/x", "/", "/sdcard", "/sdcard/l,41471", "\u{2}\0\0\0\0\0\0\0"];
    (prop::sample::select(ids.to_vec()), prop::sample::select(arguments.to_vec()), 0..3_u32).prop_map(
        |(id, argument, over)| {
            [id.as_bytes(), &(argument.len() as u32 + over).to_le_bytes(), argument.as_bytes()].concat()
        },
    )
}
