//! The judge: `apksigner verify`, one process for each APK.
//!
//! Two rules make the verdicts comparable. Where `apksigner` falls back to the JAR signature of old, that counts as refused:
//! farmhand never takes it. And what Android below 7 would say is not asked, since it knows nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::corpus::{Sample, corpus};

fn apksigner() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/fetch-apksigner.sh");
    let output = Command::new(script).output().expect("firmware-tools/fetch-apksigner.sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "fetch-apksigner.sh: {said}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// What was said, and whether it was yes.
struct Verdict {
    good: bool,
    words: String,
}

fn judged(apksigner: &Path, file: &Path, lowest_sdk: u32) -> Verdict {
    let lowest = lowest_sdk.max(24).to_string();
    let mut command = Command::new(apksigner);
    let output = command.args(["verify", "--verbose", "--min-sdk-version", &lowest]).arg(file).output().unwrap();
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let covered = words.lines().any(|line| {
        !line.contains("v1 scheme")
            && !line.contains("v4 scheme")
            && line.starts_with("Verified using")
            && line.ends_with("true")
    });
    Verdict { good: output.status.success() && covered, words }
}

fn ours(file: &Path, lowest_sdk: u32) -> Verdict {
    let verdict = farmhand::agent::signature::verify(&std::fs::File::open(file).unwrap(), lowest_sdk);
    Verdict { good: verdict.is_ok(), words: verdict.map_or_else(|error| error.to_string(), |_| "it is good".into()) }
}

/// `minSdkVersion` of a sample: its content is that of the checked-in APK of the name.
fn lowest_sdk(sample: &Sample) -> u32 {
    ["21", "28", "33"]
        .into_iter()
        .find(|sdk| sample.name.starts_with(&format!("schemes/min{sdk}")))
        .map_or(24, |sdk| sdk.parse().unwrap())
}

#[test]
fn google_and_farmhand_give_the_same_verdicts() {
    let (apksigner, samples) = (apksigner(), corpus());
    let dir = tempfile::tempdir().unwrap();
    let (next, good, differ) = (AtomicUsize::new(0), AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sample) = samples.get(number) else { break };
                    let file = dir.path().join(format!("{number}.apk"));
                    std::fs::write(&file, &sample.bytes).unwrap();
                    let lowest = lowest_sdk(sample);
                    let (theirs, ours) = (judged(&apksigner, &file, lowest), ours(&file, lowest));
                    good.fetch_add(usize::from(ours.good), Ordering::Relaxed);
                    if theirs.good != ours.good {
                        let line = format!(
                            "{}\n  farmhand:  {}\n  apksigner: {}",
                            sample.name,
                            ours.words,
                            theirs.words.trim()
                        );
                        differ.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let differ = differ.into_inner().unwrap();
    println!("{} APKs, {} of them good", samples.len(), good.into_inner());
    println!("RESULT apk.verdicts_differ {} count goal <= 0", differ.len());
    assert!(samples.len() >= 60);
    assert!(differ.is_empty(), "\n{}", differ.join("\n"));
}

/// `apksigner` 35.0.2 compares the digests of v3 and not those of v3.1, which a phone with Android 13 does: the one place where
/// farmhand knowingly says something else. If this fails, the judge has learnt it, and the sample belongs into the corpus.
#[test]
fn the_judge_overlooks_a_wrong_digest_in_v3_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v31.apk");
    std::fs::write(&file, crate::corpus::wrong_digest_in_v3_1()).unwrap();
    assert!(judged(&apksigner(), &file, 24).good);
    assert!(!ours(&file, 24).good);
}
