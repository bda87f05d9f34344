use std::io::Write as _;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tempfile::NamedTempFile;

use super::*;

/// A file of so many blocks and a half, in which each 64 KiB differ.
fn file(blocks: usize) -> (NamedTempFile, Vec<u8>) {
    let bytes: Vec<u8> = (0..blocks * BLOCK_LEN + BLOCK_LEN / 2).map(|at| (at >> 16) as u8 ^ at as u8).collect();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

async fn rest(mut reader: Reader) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        all.push(bytes);
    }
    all
}

#[tokio::test]
async fn phones_in_step_are_given_the_same_memory() {
    let (file, bytes) = file(20);
    let files = SharedFiles::default();
    let opened: Vec<SharedFile> = (0..8).map(|_| files.open(file.path()).unwrap()).collect();
    let mut readers: Vec<Reader> = opened.iter().map(SharedFile::reader).collect();
    let mut got = vec![Vec::new(); 8];
    loop {
        let mut blocks = Vec::new();
        for reader in &mut readers {
            blocks.extend(reader.next().await.unwrap());
        }
        if blocks.is_empty() {
            break;
        }
        assert!(blocks.iter().all(|block| block.as_ptr() == blocks[0].as_ptr()), "read once for all");
        for (got, block) in got.iter_mut().zip(&blocks) {
            got.extend_from_slice(block);
        }
    }
    assert!(got.iter().all(|got| *got == bytes));
}

#[tokio::test(start_paused = true)]
async fn one_phone_that_stalls_holds_nobody_up_for_long_and_gets_all_of_it_later() {
    let (file, bytes) = file(30);
    let files = SharedFiles::default();
    let opened: Vec<SharedFile> = (0..4).map(|_| files.open(file.path()).unwrap()).collect();
    let mut stalled = opened[0].reader();
    let first = stalled.next().await.unwrap().unwrap();
    let begun = Instant::now();
    let others: Vec<_> = opened[1..].iter().map(|file| tokio::spawn(rest(file.reader()))).collect();
    for other in others {
        assert!(other.await.unwrap().concat() == bytes);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let late = rest(stalled).await;
    assert!([vec![first], late].concat().concat() == bytes);
}

#[tokio::test]
async fn who_comes_late_has_a_reading_of_his_own() {
    let (file, bytes) = file(30);
    let files = SharedFiles::default();
    let begun = files.open(file.path()).unwrap();
    let mut ahead = begun.reader();
    for _ in 0..20 {
        ahead.next().await.unwrap().unwrap();
    }
    let late = files.open(file.path()).unwrap();
    assert!(rest(late.reader()).await.concat() == bytes);
    assert_eq!(rest(ahead).await.concat().len(), bytes.len() - 20 * BLOCK_LEN);
}

#[tokio::test]
async fn all_readings_together_have_a_budget_and_without_it_a_phone_reads_by_itself() {
    let files = SharedFiles::default();
    let kept: Vec<(NamedTempFile, SharedFile)> = (0..4)
        .map(|_| {
            let (file, _) = file(20);
            let opened = files.open(file.path()).unwrap();
            (file, opened)
        })
        .collect();
    assert!(kept.iter().all(|(_, opened)| lock(&opened.first).is_some()), "four windows of eight");
    let (file, bytes) = file(20);
    let alone = files.open(file.path()).unwrap();
    assert!(lock(&alone.first).is_none());
    let pieces = rest(alone.reader()).await;
    assert!(pieces.iter().all(|piece| piece.len() <= ALONE_LEN) && pieces.concat() == bytes);
    drop(kept);
    assert!(lock(&files.open(file.path()).unwrap().first).is_some(), "there is room again");
}

#[tokio::test]
async fn a_phone_that_goes_while_it_reads_for_all_is_no_loss() {
    let (file, bytes) = file(3);
    let files = SharedFiles::default();
    let [gone, other] = [0; 2].map(|_| files.open(file.path()).unwrap());
    let mut reader = gone.reader();
    assert!(reader.next().now_or_never().is_none(), "it is reading");
    drop((reader, gone));
    assert!(rest(other.reader()).await.concat() == bytes);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_another_one() {
    let (file, _) = file(3);
    let files = SharedFiles::default();
    let old = files.open(file.path()).unwrap();
    std::fs::remove_file(file.path()).unwrap();
    std::fs::write(file.path(), b"new").unwrap();
    let new = files.open(file.path()).unwrap();
    assert_eq!(rest(new.reader()).await.concat(), b"new");
    assert_eq!(rest(old.reader()).await.concat().len(), 7 * BLOCK_LEN / 2);
}

#[tokio::test]
async fn a_file_that_became_shorter_is_an_error_for_each() {
    let (file, _) = file(3);
    let files = SharedFiles::default();
    let [one, other] = [0; 2].map(|_| files.open(file.path()).unwrap());
    file.as_file().set_len(10).unwrap();
    for shared in [one, other] {
        let mut stream = Box::pin(shared.reader().into_stream());
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn pieces_for_the_wire_are_never_longer_than_its_payload() {
    let (file, bytes) = file(2);
    let opened = SharedFiles::default().open(file.path()).unwrap();
    let mut pieces = SharedBatches::new(opened.reader(), 300_000);
    let mut got = Vec::new();
    while let Some(piece) = pieces.next().await.unwrap() {
        assert!(piece.bytes.len() <= 300_000 && piece.source_len == piece.bytes.len());
        got.extend_from_slice(&piece.bytes);
    }
    assert!(got == bytes);
}

#[test]
fn a_reading_has_a_window_of_use_or_none() {
    assert_eq!(window(64, 0), Some(8));
    assert_eq!(window(64, 24), Some(8));
    assert_eq!(window(64, 25), None);
    assert_eq!(window(16, 0), Some(16), "it stays whole");
    assert_eq!(window(16, 20), Some(12));
    assert_eq!(window(3, 29), Some(3));
    assert_eq!(window(0, 0), Some(1));
}
