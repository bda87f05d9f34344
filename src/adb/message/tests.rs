use proptest::prelude::*;

use super::*;

/// `CNXN` of version 0x01000001, 1 MiB, payload `host::`, as Google's adb writes it with a sum.
const CNXN: &[u8] = b"CNXN\x01\x00\x00\x01\x00\x00\x10\x00\x06\x00\x00\x00\x32\x02\x00\x00\xbc\xb1\xa7\xb1host::";

fn feed(decoder: &mut Decoder, mut bytes: &[u8], step: usize) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(decoder.want().min(step).min(bytes.len()));
        messages.extend(decoder.push(Bytes::copy_from_slice(chunk))?);
        bytes = rest;
    }
    Ok(messages)
}

fn message(command: Command, payload: &'static [u8]) -> Message {
    Message::new(command, 1, 2, Bytes::from_static(payload), Checksums::Verified)
}

fn wire(message: &Message) -> Vec<u8> {
    let mut bytes = message.header.emit().to_vec();
    bytes.extend_from_slice(&message.payload);
    bytes
}

#[test]
fn the_bytes_of_cnxn_are_frozen() {
    let cnxn = Message::new(
        Command::Connect,
        VERSION_SKIP_CHECKSUM,
        1 << 20,
        Bytes::from_static(b"host::"),
        Checksums::IfPresent,
    );
    assert_eq!(wire(&cnxn), CNXN);
    assert_eq!(feed(&mut Decoder::default(), CNXN, 1).unwrap(), [cnxn]);
}

#[test]
fn each_wrong_field_is_named_with_its_offset_and_value() {
    let good = message(Command::Write, b"abc").header.emit();
    let broken = |at: usize, value: u8| {
        let mut bytes = good;
        bytes[at] = value;
        Header::parse(Packet(bytes), 100).unwrap_err()
    };
    assert_eq!(broken(0, b'X'), FrameError::Command { seen: 0x4554_5258 });
    let expected = !Command::Write.code();
    assert_eq!(broken(20, 0), FrameError::Magic { command: Command::Write, seen: expected & !0xff, expected });
    assert_eq!(broken(12, 101), FrameError::Length { command: Command::Write, seen: 101, max: 100 });
    assert_eq!(broken(12, 101).to_string(), "the length of Write (offset 12) is 101, agreed were at most 100 bytes");
}

#[test]
fn a_wrong_sum_is_refused_where_sums_are_agreed_and_ignored_where_not() {
    let mut bytes = wire(&message(Command::Write, b"abc"));
    bytes[16] ^= 1;
    let decode = |checksums| feed(&mut Decoder::aligned(Framing { payload_max: 100, checksums }), &bytes, 100);
    assert!(matches!(decode(Checksums::Verified), Err(FrameError::Checksum { expected: 294, .. })));
    assert!(matches!(decode(Checksums::IfPresent), Err(FrameError::Checksum { .. })));
    assert_eq!(decode(Checksums::Skipped).unwrap().len(), 1);
}

#[test]
fn bytes_of_an_earlier_connection_are_skipped_until_the_first_answer() {
    let mut bytes = b"CNX and half a file CNXNCNXN".to_vec();
    bytes.extend_from_slice(&wire(&message(Command::Write, b"stale")));
    let stale = bytes.len();
    bytes.extend_from_slice(CNXN);
    for step in 1..30 {
        let mut decoder = Decoder::default();
        let messages = feed(&mut decoder, &bytes, step).unwrap();
        assert_eq!(messages.iter().map(|m| m.payload.as_ref()).collect::<Vec<_>>(), [b"host::"]);
        assert_eq!(decoder.skipped(), stale);
    }
}

#[test]
fn a_payload_that_arrives_whole_is_not_copied() {
    let mut decoder = Decoder::aligned(Framing { payload_max: 100, checksums: Checksums::Skipped });
    let message = message(Command::Write, b"not copied");
    assert_eq!(decoder.push(Bytes::copy_from_slice(&message.header.emit())).unwrap(), None);
    let payload = Bytes::from(b"not copied".to_vec());
    let taken = decoder.push(payload.clone()).unwrap().unwrap();
    assert_eq!(taken.payload.as_ptr(), payload.as_ptr());
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(index in 0..8usize, arg0: u32, arg1: u32, payload_len in 0..=1000u32, checksum: u32) {
        let header = Header { command: Command::ALL[index], arg0, arg1, payload_len, checksum };
        prop_assert_eq!(Header::parse(Packet(header.emit()), 1000), Ok(header));
    }

    #[test]
    fn messages_arrive_whatever_the_chunks(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6),
        step in 1..60usize,
    ) {
        let sent: Vec<_> = payloads
            .into_iter()
            .map(|p| Message::new(Command::Write, 1, 2, p.into(), Checksums::Verified))
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(wire).collect();
        let mut decoder = Decoder::aligned(Framing { payload_max: 100, checksums: Checksums::Verified });
        prop_assert_eq!(feed(&mut decoder, &bytes, step).unwrap(), sent);
    }

    #[test]
    fn decoder_survives_any_bytes(bytes: Vec<u8>, step in 1..60usize, hunting: bool) {
        let framing = Framing { payload_max: 100, checksums: Checksums::Verified };
        let mut decoder = if hunting { Decoder::default() } else { Decoder::aligned(framing) };
        let _ = feed(&mut decoder, &bytes, step);
        prop_assert!(decoder.want() <= HANDSHAKE_PAYLOAD_MAX);
    }
}
