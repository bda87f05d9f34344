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

#[test]
fn a_field_that_nobody_knows_survives_a_new_token() {
    let unknown = b"\x9a\x06\x05hello"; // field 99, bytes
    let (before, after) = GOLDEN.split_at(6); // Id and AccessToken; all the rest
    let bytes = [before, &unknown[..], after, &unknown[..]].concat();
    let mut out = BytesMut::new();
    splice(&bytes, 77, "another", &mut out).unwrap();

    let expected = [b"\x08\x4d\x12\x07another".as_slice(), &unknown[..], after, &unknown[..]].concat();
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

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
    fn a_spliced_envelope_differs_in_id_and_token_only(bytes in nearly_envelopes(), id in any::<i64>()) {
        let mut out = BytesMut::new();
        if splice(&bytes, id, "t", &mut out).is_ok() && let Ok(before) = TransportMessage::decode(&bytes[..]) {
            let after = TransportMessage::decode(&out[..]).unwrap();
            prop_assert_eq!(after, TransportMessage { id, access_token: "t".to_owned(), ..before });
        }
    }
}
