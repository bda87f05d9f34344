//! The fuzz corpora, replayed on every run: every target's inputs as they are, the central protocol's with random changes, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use farmhand::central::exercise;
use farmhand::{adb, agent, phone, power, usb};
use proptest::prelude::*;
use proptest::sample::Index;

/// What a target hands its input to.
type Entry = fn(&[u8]);

/// Each target of `fuzz/fuzz_targets` and what it calls.
const TARGETS: &[(&str, Entry)] = &[
    ("adb_banner", adb::banner::fuzz_banner),
    ("adb_install_answer", adb::services::install::fuzz_install_answer),
    ("adb_reverse_answer", adb::services::reverse_answer::fuzz_reverse_answer),
    ("adb_connection", adb::connection::operations::replay),
    ("adb_key_files", adb::auth::fuzz_key_files),
    ("adb_message", adb::message::fuzz_messages),
    ("adb_portal", adb::server::portal::fuzz_portal),
    ("adb_request", adb::server::request::fuzz_request),
    ("adb_token", adb::server::tokens::fuzz_token),
    ("adb_shell", adb::services::shell::fuzz_packets),
    ("adb_sync", adb::services::sync::fuzz_replies),
    ("apk_manifest", agent::manifest::fuzz_apk_manifest),
    ("adb_sync_data", adb::services::sync::fuzz_data),
    ("adb_sync_entries", adb::services::sync::fuzz_entries),
    ("apk_signing_block", agent::signing_block::fuzz_apk_signing_block),
    ("apk_zip", agent::zip::fuzz_apk_zip),
    ("central_envelope", exercise::envelope),
    ("central_frame", exercise::frames),
    ("central_outbox", exercise::outbox),
    ("central_outgoing", exercise::outgoing),
    ("central_pace", exercise::pace),
    ("central_relay", exercise::relay),
    ("central_session", exercise::session),
    ("central_splice", exercise::splicing),
    ("hub_lines", power::cambrionix::fuzz_hub_lines),
    ("hub_reply", power::dialogue::fuzz_hub_reply),
    ("phone_profile", phone::profile::fuzz_profile),
    ("tool_frames", phone::tools::wire::fuzz_frames),
    ("usb_kernel_log", usb::kernel_log::fuzz_kernel_log),
];

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder)
}

/// What lies in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Every input of one target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = entries(&fuzz("corpus").join(target));
    let seeds = files.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("seed-")));
    assert!(seeds.count() >= 3, "{target} has its seeds");
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The targets of the virtual phone's ADB, which `firmware-tools/handset/tests/exercise.rs` replays: it depends on nothing of ours.
const OF_THE_HANDSET: &str = "handset_";

#[test]
fn every_target_is_replayed() {
    let targets = entries(&fuzz("fuzz_targets"));
    let targets = targets.iter().filter_map(|path| path.file_stem()?.to_str());
    let targets: BTreeSet<_> = targets.filter(|target| !target.starts_with(OF_THE_HANDSET)).collect();
    assert_eq!(targets, TARGETS.iter().map(|(target, _)| *target).collect());
}

#[test]
fn the_corpora_break_nothing() {
    for (target, entry) in TARGETS {
        corpus(target).iter().for_each(|input| entry(input));
    }
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
    fn changed_splices_break_nothing(input in crossed("central_splice")) {
        exercise::splicing(&input);
    }

    #[test]
    fn changed_outboxes_break_nothing(input in crossed("central_outbox")) {
        exercise::outbox(&input);
    }

    #[test]
    fn changed_paces_break_nothing(input in crossed("central_pace")) {
        exercise::pace(&input);
    }

    #[test]
    fn changed_frames_for_the_server_break_nothing(input in crossed("central_outgoing")) {
        exercise::outgoing(&input);
    }

    #[test]
    fn changed_relays_break_nothing(input in crossed("central_relay")) {
        exercise::relay(&input);
    }

    #[test]
    fn changed_sessions_break_nothing(input in crossed("central_session")) {
        exercise::session(&input);
    }
}
