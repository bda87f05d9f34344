use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8], step: usize) -> Result<Vec<Packet>, PacketError> {
    let mut decoder = PacketDecoder::default();
    let mut packets = Vec::new();
    for chunk in bytes.chunks(step) {
        decoder.push(chunk);
        while let Some(packet) = decoder.next_packet()? {
            packets.push(packet);
        }
    }
    Ok(packets)
}

#[test]
fn the_bytes_of_shell_v2_are_frozen() {
    let bytes = b"\x01\x02\x00\x00\x00ok\x02\x01\x00\x00\x00!\x03\x01\x00\x00\x00\x2a";
    let packets =
        [Packet::Stdout(Bytes::from_static(b"ok")), Packet::Stderr(Bytes::from_static(b"!")), Packet::Exit(42)];
    assert_eq!(packets.iter().flat_map(Packet::emit).collect::<Vec<_>>(), bytes);
    assert_eq!(decode(bytes, 1).unwrap(), packets);
}

#[test]
fn what_is_no_packet_is_named() {
    assert_eq!(decode(b"\x06", 1), Err(PacketError::Id { seen: 6 }));
    assert_eq!(decode(b"\x01\xff\xff\xff\xff", 5), Err(PacketError::Length { id: 1, seen: u32::MAX }));
    assert_eq!(decode(b"\x03\x00\x00\x00\x00", 5), Err(PacketError::Exit { seen: 0 }));
}

proptest! {
    #[test]
    fn packets_arrive_whatever_the_chunks(data: Vec<Vec<u8>>, step in 1..50usize) {
        let packets: Vec<_> = data
            .into_iter()
            .enumerate()
            .map(|(n, data)| if n % 2 == 0 { Packet::Stdout(data.into()) } else { Packet::Stderr(data.into()) })
            .collect();
        let bytes: Vec<u8> = packets.iter().flat_map(Packet::emit).collect();
        prop_assert_eq!(decode(&bytes, step).unwrap(), packets);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, step in 1..50usize) {
        let _ = decode(&bytes, step);
    }
}
