use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8], step: usize) -> Result<Vec<Reply>, ReplyError> {
    let mut decoder = ReplyDecoder::default();
    let mut replies = Vec::new();
    for chunk in bytes.chunks(step) {
        decoder.push(chunk);
        while let Some(reply) = decoder.next_reply()? {
            replies.push(reply);
        }
    }
    Ok(replies)
}

#[test]
fn the_bytes_of_requests_are_frozen() {
    let send = Request::Send { path: "/data/local/tmp/a".to_owned(), mode: 0o100_644 };
    assert_eq!(send.emit(), &b"SEND\x17\x00\x00\x00/data/local/tmp/a,33188"[..]);
    assert_eq!(Request::StatV1 { path: "/a".to_owned() }.emit(), &b"STAT\x02\x00\x00\x00/a"[..]);
    assert_eq!(Request::StatV2 { path: "/a".to_owned() }.emit(), &b"STA2\x02\x00\x00\x00/a"[..]);
    assert_eq!(Request::Done { mtime_s: 0x0102_0304 }.emit(), &b"DONE\x04\x03\x02\x01"[..]);
    let send = |compression, fate| Request::SendV2 { path: "/a".to_owned(), mode: 0o100_644, compression, fate }.emit();
    let kept = send(WireCompression::Lz4, Fate::Kept);
    assert_eq!(kept, &b"SND2\x02\x00\x00\x00/aSND2\xa4\x81\x00\x00\x02\x00\x00\x00"[..]);
    let discarded = send(WireCompression::None, Fate::Discarded);
    assert_eq!(discarded, &b"SND2\x02\x00\x00\x00/aSND2\xa4\x81\x00\x00\x00\x00\x00\x80"[..]);
    let receive = Request::ReceiveV2 { path: "/a".to_owned(), compression: WireCompression::None };
    assert_eq!(receive.emit(), &b"RCV2\x02\x00\x00\x00/aRCV2\x00\x00\x00\x00"[..]);
    assert_eq!(Request::Receive { path: "/a".to_owned() }.emit(), &b"RECV\x02\x00\x00\x00/a"[..]);
    assert_eq!(Request::List { path: "/".to_owned(), form: ListForm::V1 }.emit(), &b"LIST\x01\x00\x00\x00/"[..]);
    assert_eq!(Request::List { path: "/".to_owned(), form: ListForm::V2 }.emit(), &b"LIS2\x01\x00\x00\x00/"[..]);
    assert_eq!(Request::Quit.emit(), &b"QUIT\x00\x00\x00\x00"[..]);
}

#[test]
fn the_bytes_of_replies_are_frozen() {
    let mut bytes = b"OKAY\x00\x00\x00\x00FAIL\x04\x00\x00\x00full".to_vec();
    bytes.extend_from_slice(b"STAT\xa4\x81\x00\x00\x07\x00\x00\x00\x09\x00\x00\x00STAT\0\0\0\0\0\0\0\0\0\0\0\0");
    let mut stat_v2 = b"STA2".to_vec();
    stat_v2.extend_from_slice(&[0; 20]);
    stat_v2.extend_from_slice(&0o100_600_u32.to_le_bytes());
    stat_v2.extend_from_slice(&[1; 12]);
    stat_v2.extend_from_slice(&5_000_000_000_u64.to_le_bytes());
    stat_v2.extend_from_slice(&[1; 8]);
    stat_v2.extend_from_slice(&1_700_000_000_i64.to_le_bytes());
    stat_v2.extend_from_slice(&[1; 8]);
    bytes.extend_from_slice(&stat_v2);
    for error in [2, 13] {
        stat_v2[4] = error;
        bytes.extend_from_slice(&stat_v2);
    }
    let expected = [
        Reply::Okay,
        Reply::Fail("full".to_owned()),
        Reply::Stat(Some(FileStat { mode: 0o100_644, size: 7, mtime_s: 9 })),
        Reply::Stat(None),
        Reply::Stat(Some(FileStat { mode: 0o100_600, size: 5_000_000_000, mtime_s: 1_700_000_000 })),
        Reply::Stat(None),
        Reply::StatFailed(13),
    ];
    for step in [1, 7, 1000] {
        assert_eq!(decode(&bytes, step).unwrap(), expected);
    }
}

#[test]
fn what_is_no_reply_is_named() {
    assert_eq!(decode(b"NOPE", 4), Err(ReplyError::Letters { seen: *b"NOPE", expected: "OKAY, FAIL, STAT or STA2" }));
    assert_eq!(decode(b"FAIL\xff\xff\xff\xff", 8), Err(ReplyError::Length { seen: u32::MAX }));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, letters in 0..4usize) {
        let known: [&[u8]; 4] = [b"OKAY", b"FAIL", b"STAT", b"STA2"];
        fuzz_replies(&bytes);
        fuzz_replies(&[known[letters], &bytes].concat());
    }
}
