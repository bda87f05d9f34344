use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::central::proto::TransportMessage;

const ERROR: &str = "Jubo.JuLiao.IM.Wx.Proto.ErrorMessage";

/// Error NoRight for message 7, as it stands on the wire.
const GOLDEN: &[u8] = b"\x08\x03\
    \x12\x02tk\
    \x18\xeb\x07\
    \x22\x42\
      \x0a\x38type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.ErrorMessage\
      \x12\x06\x08\xe9\x07\x12\x01n\
    \x28\x07";

fn golden() -> Envelope<'static> {
    let body = Body { type_name: ERROR, value: b"\x08\xe9\x07\x12\x01n" };
    Envelope { id: 3, access_token: "tk", msg_type: 1003, body: Some(body), ref_message_id: 7 }
}

#[test]
fn an_envelope_is_written_byte_for_byte_as_the_protocol_says() {
    let frame = golden().frame().unwrap();
    assert_eq!(frame[..4], (GOLDEN.len() as u32).to_be_bytes());
    assert_eq!(frame[4..].escape_ascii().to_string(), GOLDEN.escape_ascii().to_string());
}

#[test]
fn a_view_reads_what_was_written() {
    let view = View::parse(GOLDEN).unwrap();
    assert_eq!((view.id, view.access_token, view.msg_type, view.ref_message_id), (3, "tk", 1003, 7));
    assert_eq!(view.content.unwrap().type_name(), ERROR);
    assert_eq!(view.body(), b"\x08\xe9\x07\x12\x01n");
}

#[test]
fn an_acknowledgement_is_as_short_as_can_be() {
    let ack = Envelope { id: 300, access_token: "t", msg_type: 1002, body: None, ref_message_id: -1 };
    let expected = b"\0\0\0\x14\x08\xac\x02\x12\x01t\x18\xea\x07\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(ack.frame().unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn any_prefix_of_the_type_url_is_taken_and_none_too() {
    for (url, name) in [("", ""), (ERROR, ERROR), ("a/b/X", "X"), ("X/", ""), ("/X", "X")] {
        assert_eq!(Content { type_url: url, value: &[] }.type_name(), name, "{url}");
    }
}

#[test]
fn an_unknown_type_stays_a_number() {
    let bytes = Envelope { msg_type: 987_654, ..Envelope::default() }.frame().unwrap();
    assert_eq!(View::parse(&bytes[4..]).unwrap().msg_type, 987_654);
}

#[test]
fn an_empty_envelope_fits_no_frame() {
    assert_eq!(Envelope::default().frame(), Err(Unsendable { length: 0 }));
}

fn spliced(bytes: &[u8], address: Address<'_>) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    splice(bytes, &address, &mut out).unwrap();
    out.strip_prefix(b"before").expect("what stood there stays").to_vec()
}

const ELSEWHERE: Address<'_> = Address { id: 77, access_token: "another", ref_message_id: 300 };

#[test]
fn another_address_stands_where_the_old_one_stood() {
    let unknown = b"\x9a\x06\x05hello"; // field 99, bytes
    let (before, rest) = GOLDEN.split_at(6); // Id and AccessToken
    let (content, reference) = rest.split_at(rest.len() - 2); // MsgType and Content; RefMessageId
    let bytes = [before, &unknown[..], content, reference, &unknown[..]].concat();
    let expected =
        [b"\x08\x4d\x12\x07another".as_slice(), &unknown[..], content, b"\x28\xac\x02", &unknown[..]].concat();
    assert_eq!(spliced(&bytes, ELSEWHERE).escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn what_an_envelope_lacks_of_its_address_comes_last_and_a_zero_is_left_out() {
    let bare = b"\x18\xeb\x07";
    assert_eq!(spliced(bare, ELSEWHERE), b"\x18\xeb\x07\x08\x4d\x12\x07another\x28\xac\x02");
    assert_eq!(spliced(GOLDEN, Address::default()), GOLDEN[6..GOLDEN.len() - 2]);
}

#[test]
fn odd_numbers_odd_orders_and_fields_that_come_twice_stay_but_for_the_address() {
    // RefMessageId, MsgType in five bytes, Id in three, a fixed32, MsgType again, Id again, an empty Content, a group.
    let odd = b"\x28\x05\x18\xeb\x87\x80\x80\x00\x08\x83\x80\x00\x3d\x01\x02\x03\x04\x18\xeb\x07\x08\x04\x22\x00\x33\x08\x01\x34";
    let expected = b"\x28\xac\x02\x18\xeb\x87\x80\x80\x00\x08\x4d\x3d\x01\x02\x03\x04\x18\xeb\x07\x22\x00\x33\x08\x01\x34\x12\x07another";
    let after = spliced(odd, ELSEWHERE);
    assert_eq!(after.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(View::parse(&after).unwrap().id, 77);
}

#[test]
fn a_spliced_frame_has_its_own_length() {
    let mut out = BytesMut::new();
    splice_frame(GOLDEN, &ELSEWHERE, &mut out).unwrap();
    let payload = spliced(GOLDEN, ELSEWHERE);
    assert_eq!(out[..HEADER_LEN], (payload.len() as u32).to_be_bytes());
    assert_eq!(out[HEADER_LEN..], payload);

    let whole = out.clone();
    assert!(matches!(splice_frame(b"\x08", &ELSEWHERE, &mut out), Err(SpliceError::Wire(_))));
    let nothing = splice_frame(b"\x08\x01", &Address::default(), &mut out);
    assert_eq!(nothing, Err(SpliceError::Unsendable(Unsendable { length: 0 })));
    assert_eq!(out, whole, "what cannot be spliced leaves nothing behind");
}

const HEADER_LEN: usize = frame::HEADER;

#[test]
fn bytes_that_are_no_envelope_say_where_and_why() {
    for (bytes, why) in [
        (&b"\x08"[..], "the bytes end inside a field, at offset 1"),
        (b"\x12\x05ab", "the bytes end inside a field, at offset 2"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "the number at offset 1 is longer than 64 bits"),
        (b"\x07", "the key 0x7 at offset 0 is no field"),
        (b"\x0a\x00", "field Id has another type"),
        (b"\x12\x01\xff", "field AccessToken is not UTF-8"),
        (b"\x22\x03\x0a\x01\xff", "field Content.type_url is not UTF-8"),
        (b"\x9c\x06", "the group at offset 0 does not match"),
    ] {
        let error = View::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{}: {error}", bytes.escape_ascii());
    }
}

/// Bytes that are nearly protobuf: fields of our numbers and others, with all wire types, some cut short.
fn nearly_envelopes() -> impl Strategy<Value = Vec<u8>> {
    let field = (
        prop::sample::select(vec![1_u32, 2, 3, 4, 5, 6, 99, 5000]),
        0_u32..6,
        prop::collection::vec(any::<u8>(), 0..14),
    );
    let any = prop::collection::vec((1_u32..4, prop::collection::vec(any::<u8>(), 0..8)), 0..4).prop_map(|fields| {
        let mut out = Vec::new();
        fields.iter().for_each(|(number, bytes)| put_bytes(&mut out, *number, bytes));
        let mut content = Vec::new();
        put_bytes(&mut content, CONTENT, &out);
        content
    });
    let field = field.prop_map(|(number, wire_type, bytes)| {
        let mut out = Vec::new();
        put_key(&mut out, number, wire_type);
        match wire_type {
            VARINT => encode_varint(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)), &mut out),
            LENGTH_DELIMITED => {
                encode_varint(bytes.len() as u64, &mut out);
                out.extend(bytes);
            }
            _ => out.extend(bytes),
        }
        out
    });
    let parts = prop::collection::vec(prop_oneof![3 => field, 1 => any], 0..8);
    (parts, 0_usize..4).prop_map(|(parts, cut)| {
        let mut bytes = parts.concat();
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes
    })
}

fn check_against_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (View::parse(bytes), TransportMessage::decode(bytes)) {
        (Err(_), Err(_)) => {}
        (Ok(view), Ok(message)) => {
            prop_assert_eq!(view.id, message.id);
            prop_assert_eq!(view.access_token, message.access_token);
            prop_assert_eq!(view.msg_type, message.msg_type);
            prop_assert_eq!(view.ref_message_id, message.ref_message_id);
            let content = view.content.map(|c| (c.type_url.to_owned(), c.value.to_vec()));
            prop_assert_eq!(content, message.content.map(|c| (c.type_url, c.value)));
        }
        (view, message) => prop_assert!(false, "we say {view:?}, prost says {message:?}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_view_sees_what_prost_sees(bytes in nearly_envelopes()) {
        check_against_prost(&bytes)?;
    }

    #[test]
    fn a_view_of_noise_sees_what_prost_sees(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        check_against_prost(&bytes)?;
    }

    #[test]
    fn we_write_what_prost_writes(
        id in any::<i64>(), token in ".{0,12}", msg_type in any::<i32>(), reference in any::<i64>(),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        let body = value.as_deref().map(|value| Body { type_name: "a.B", value });
        let envelope = Envelope { id, access_token: &token, msg_type, body, ref_message_id: reference };
        let content = value.as_ref().map(|value| prost_types::Any {
            type_url: "type.googleapis.com/a.B".to_owned(), value: value.clone(),
        });
        let message = TransportMessage {
            id, access_token: token.clone(), msg_type, content, ref_message_id: reference,
        };
        let mut out = BytesMut::new();
        envelope.encode(&mut out);
        prop_assert_eq!(out.len(), envelope.encoded_len());
        prop_assert_eq!(out.to_vec(), message.encode_to_vec());
    }

    #[test]
    fn a_spliced_envelope_is_another_in_its_address_only(bytes in nearly_envelopes(), id in any::<i64>(), reference in any::<i64>()) {
        let address = Address { id, access_token: "t", ref_message_id: reference };
        let mut out = BytesMut::new();
        let done = splice(&bytes, &address, &mut out);
        prop_assert!(done.is_ok() || out.is_empty());
        if done.is_ok() && let Ok(before) = TransportMessage::decode(&bytes[..]) {
            let after = TransportMessage::decode(&out[..]).unwrap();
            prop_assert_eq!(&after, &TransportMessage { id, access_token: "t".to_owned(), ref_message_id: reference, ..before });
            prop_assert_eq!(rest_of(&out), rest_of(&bytes), "every other byte, in its order");
        }
    }

    #[test]
    fn an_envelope_comes_back_as_it_was_from_another_address(
        id in 1..i64::MAX, token in "[a-z]{1,9}", reference in 1..i64::MAX, msg_type in any::<i32>(),
        value in prop::collection::vec(any::<u8>(), 0..300), other in nearly_envelopes(),
    ) {
        let content = Some(prost_types::Any { type_url: "x/a.B".to_owned(), value });
        let message =
            TransportMessage { id, access_token: token.clone(), msg_type, content, ref_message_id: reference };
        let unknown = rest_of(&other).concat();
        let bytes = if View::parse(&unknown).is_ok() { [message.encode_to_vec(), unknown].concat() } else { message.encode_to_vec() };
        let home = Address { id, access_token: &token, ref_message_id: reference };
        prop_assert_eq!(spliced(&spliced(&bytes, ELSEWHERE), home), bytes);
    }
}

/// The fields that are no address, as they lie in the bytes; those before the first that is none.
fn rest_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let fields = std::iter::from_fn(|| reader.field().ok().flatten());
    fields.filter(|field| !is_of_address(field.number)).map(|field| field.raw.to_vec()).collect()
}
