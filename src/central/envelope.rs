//! The envelope, `TransportMessage`: seen without a decode, written exactly, and re-addressed without a change to what is in it.
//!
//! [`View`] reads any bytes: unknown fields are skipped, an unknown MsgType is a number, any prefix of the type URL is taken.
//! [`Envelope`] holds only what makes sense and writes what the protocol document says. [`splice`] gives an envelope another
//! [`Address`]; a decode and an encode would lose the fields that we do not know.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::frame;
use super::wire::{Field, Reader, Value};

pub use super::wire::WireError;

/// What the type URL of each Content begins with when we send it.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// What [`make_room`] makes at once: many frames of the usual length, or a few of 4 KiB.
const BLOCK_LEN: usize = 16 << 10;

const ID: u32 = 1;
const ACCESS_TOKEN: u32 = 2;
const MSG_TYPE: u32 = 3;
const CONTENT: u32 = 4;
const REF_MESSAGE_ID: u32 = 5;
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

/// An envelope as it lies in the bytes that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View<'a> {
    /// Rises by one within a sender; some servers' responses have 0.
    pub id: i64,
    /// Empty in `DeviceAuthReq`.
    pub access_token: &'a str,
    /// The code, whether the catalogue has it or not.
    pub msg_type: i32,
    /// What the message is about; `None` where the field is absent.
    pub content: Option<Content<'a>>,
    /// The Id of the message that this one answers; 0 if none.
    pub ref_message_id: i64,
}

/// A `google.protobuf.Any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content<'a> {
    /// As it came: with any prefix, or empty.
    pub type_url: &'a str,
    /// The serialised body.
    pub value: &'a [u8],
}

impl<'a> Content<'a> {
    /// The full name of the body: what follows the last `/` of the type URL; empty where there is none.
    #[must_use]
    pub fn type_name(&self) -> &'a str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// They are not protobuf.
    #[error("not protobuf: {0}")]
    Wire(#[from] WireError),
    /// A field that we know has another type.
    #[error("field {field} has another type than the protocol gives it, before offset {offset}")]
    Type {
        /// Its name in proto/.
        field: &'static str,
        /// Where it ends, from the start of the message that it is in.
        offset: usize,
    },
    /// A text is not UTF-8.
    #[error("field {field} is not UTF-8, before offset {offset}")]
    Text {
        /// Its name in proto/.
        field: &'static str,
        /// Where it ends, from the start of the message that it is in.
        offset: usize,
    },
}

impl<'a> View<'a> {
    /// Looks at a serialised `TransportMessage`.
    ///
    /// # Errors
    /// The bytes are not protobuf, or a known field has another type.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut view = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            let at = reader.offset();
            match field.number {
                ID => view.id = int64(&field, "Id", at)?,
                ACCESS_TOKEN => view.access_token = text(&field, "AccessToken", at)?,
                MSG_TYPE => view.msg_type = int32(&field, "MsgType", at)?,
                CONTENT => {
                    let any = message(&field, "Content", at)?;
                    view.content = Some(merge_any(view.content.unwrap_or_default(), any)?);
                }
                REF_MESSAGE_ID => view.ref_message_id = int64(&field, "RefMessageId", at)?,
                _ => {}
            }
        }
        Ok(view)
    }

    /// The serialised body; empty where there is none.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.content.map(|content| content.value).unwrap_or_default()
    }
}

/// A message field that comes twice is merged, as protobuf says.
fn merge_any<'a>(mut content: Content<'a>, bytes: &'a [u8]) -> Result<Content<'a>, EnvelopeError> {
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        let at = reader.offset();
        match field.number {
            ANY_TYPE_URL => content.type_url = text(&field, "Content.type_url", at)?,
            ANY_VALUE => content.value = message(&field, "Content.value", at)?,
            _ => {}
        }
    }
    Ok(content)
}

fn int64(field: &Field<'_>, name: &'static str, offset: usize) -> Result<i64, EnvelopeError> {
    match field.value {
        Value::Varint(value) => Ok(value.cast_signed()),
        Value::Bytes(_) | Value::Opaque => Err(EnvelopeError::Type { field: name, offset }),
    }
}

/// Protobuf cuts a longer number down to its lower 32 bits.
fn int32(field: &Field<'_>, name: &'static str, offset: usize) -> Result<i32, EnvelopeError> {
    #[expect(clippy::cast_possible_truncation, reason = "what protobuf says of an enum that is longer")]
    int64(field, name, offset).map(|value| value as i32)
}

fn message<'a>(field: &Field<'a>, name: &'static str, offset: usize) -> Result<&'a [u8], EnvelopeError> {
    match field.value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) | Value::Opaque => Err(EnvelopeError::Type { field: name, offset }),
    }
}

fn text<'a>(field: &Field<'a>, name: &'static str, offset: usize) -> Result<&'a str, EnvelopeError> {
    let bytes = message(field, name, offset)?;
    std::str::from_utf8(bytes).map_err(|_| EnvelopeError::Text { field: name, offset })
}

/// An envelope to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// One more than the last one's.
    pub id: i64,
    /// The token of `DeviceAuthRsp`.
    pub access_token: &'a str,
    /// The code.
    pub msg_type: i32,
    /// The body; `None` where the message carries nothing.
    pub body: Option<Body<'a>>,
    /// The Id of the message that this one answers; 0 if none.
    pub ref_message_id: i64,
}

/// A body to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// The full name of the message.
    pub type_name: &'a str,
    /// It, serialised.
    pub value: &'a [u8],
}

impl Envelope<'_> {
    /// The whole frame: the length, then the envelope.
    ///
    /// # Errors
    /// The envelope is empty, or longer than a length can say.
    pub fn frame(&self) -> Result<Bytes, Unsendable> {
        let mut out = BytesMut::with_capacity(frame::HEADER + self.encoded_len());
        self.put_frame(&mut out)?;
        Ok(out.freeze())
    }

    /// As [`Self::frame`], behind what is in `out`.
    ///
    /// # Errors
    /// As there; `out` is as it was.
    pub fn put_frame(&self, out: &mut BytesMut) -> Result<(), Unsendable> {
        let length = self.encoded_len();
        let header = frame::header(length).ok_or(Unsendable { length })?;
        make_room(out, frame::HEADER + length);
        out.put_slice(&header);
        self.encode(out);
        Ok(())
    }

    /// How long the envelope is without the frame's length.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let body = self.body.map_or(0, |body| bytes_len(body.any_len()));
        int_len(self.id)
            + text_len(self.access_token.len())
            + int_len(i64::from(self.msg_type))
            + body
            + int_len(self.ref_message_id)
    }

    /// Writes the envelope without the frame's length.
    pub fn encode(&self, out: &mut impl BufMut) {
        put_int(out, ID, self.id);
        put_bytes(out, ACCESS_TOKEN, self.access_token.as_bytes());
        put_int(out, MSG_TYPE, i64::from(self.msg_type));
        if let Some(body) = self.body {
            put_key(out, CONTENT, LENGTH_DELIMITED);
            encode_varint(body.any_len() as u64, out);
            put_key(out, ANY_TYPE_URL, LENGTH_DELIMITED);
            encode_varint(body.url_len() as u64, out);
            out.put_slice(TYPE_URL_PREFIX.as_bytes());
            out.put_slice(body.type_name.as_bytes());
            put_bytes(out, ANY_VALUE, body.value);
        }
        put_int(out, REF_MESSAGE_ID, self.ref_message_id);
    }
}

impl Body<'_> {
    fn url_len(&self) -> usize {
        TYPE_URL_PREFIX.len() + self.type_name.len()
    }

    fn any_len(&self) -> usize {
        bytes_len(self.url_len()) + text_len(self.value.len())
    }
}

/// An envelope that no frame can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an envelope of {length} bytes fits no frame")]
pub struct Unsendable {
    /// How long it would be.
    pub length: usize,
}

/// What of an envelope belongs to the connection that it goes by, and not to the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address<'a> {
    /// One more than the last one's.
    pub id: i64,
    /// The token of that connection.
    pub access_token: &'a str,
    /// The Id, on that connection, of the message that this one answers; 0 if none.
    pub ref_message_id: i64,
}

/// Why an envelope cannot be sent under another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// It is none.
    #[error("not protobuf: {0}")]
    Wire(#[from] WireError),
    /// Nothing, or too much, would be left.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// Appends a serialised envelope to `out` under another address. Each field of the address is written where it stood first, or at the end
/// if it did not; every other byte stays as it was, known or not, in its order and with numbers as long as they were.
///
/// # Errors
/// The bytes are not protobuf; `out` is as it was.
pub fn splice(bytes: &[u8], address: &Address<'_>, out: &mut BytesMut) -> Result<(), WireError> {
    let begin = out.len();
    let mut missing = [Some(ID), Some(ACCESS_TOKEN), Some(REF_MESSAGE_ID)];
    let mut reader = Reader::new(bytes);
    loop {
        match reader.field() {
            Ok(Some(field)) if is_of_address(field.number) => {
                if let Some(first) = missing.iter_mut().find(|missing| **missing == Some(field.number)) {
                    *first = None;
                    put_address(out, field.number, address);
                }
            }
            Ok(Some(field)) => out.put_slice(field.raw),
            Ok(None) => break,
            Err(why) => {
                out.truncate(begin);
                return Err(why);
            }
        }
    }
    missing.into_iter().flatten().for_each(|number| put_address(out, number, address));
    Ok(())
}

/// Frames that are written one behind the other share a block, and a block whose frames have all been sent is used again.
fn make_room(out: &mut BytesMut, length: usize) {
    if out.capacity() - out.len() < length {
        out.reserve(length.max(BLOCK_LEN));
    }
}

/// As [`splice`], with the frame's length before it.
///
/// # Errors
/// The bytes are not protobuf, or what they become fits no frame; `out` is as it was.
pub fn splice_frame(bytes: &[u8], address: &Address<'_>, out: &mut BytesMut) -> Result<(), SpliceError> {
    let begin = out.len();
    make_room(out, frame::HEADER + bytes.len() + ADDRESS_LEN_MAX + address.access_token.len());
    out.put_bytes(0, frame::HEADER);
    let spliced = splice(bytes, address, out).map_err(SpliceError::Wire).and_then(|()| {
        let length = out.len() - begin - frame::HEADER;
        frame::header(length).ok_or(SpliceError::Unsendable(Unsendable { length }))
    });
    match (spliced, out.get_mut(begin..begin + frame::HEADER)) {
        (Ok(header), Some(place)) => {
            place.copy_from_slice(&header);
            Ok(())
        }
        (spliced, _) => {
            out.truncate(begin);
            spliced.map(drop)
        }
    }
}

/// The most that an address takes, its token aside: two numbers of ten bytes, a length of five, three keys.
const ADDRESS_LEN_MAX: usize = 28;

const fn is_of_address(number: u32) -> bool {
    matches!(number, ID | ACCESS_TOKEN | REF_MESSAGE_ID)
}

fn put_address(out: &mut BytesMut, number: u32, address: &Address<'_>) {
    match number {
        ID => put_int(out, ID, address.id),
        ACCESS_TOKEN => put_bytes(out, ACCESS_TOKEN, address.access_token.as_bytes()),
        _ => put_int(out, REF_MESSAGE_ID, address.ref_message_id),
    }
}

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;
/// Every field of the envelope has a number below 16, so its key is one byte.
const KEY_LEN: usize = 1;

fn put_key(out: &mut impl BufMut, number: u32, wire_type: u32) {
    encode_varint(u64::from(number << 3 | wire_type), out);
}

/// proto3 leaves out what is zero.
fn put_int(out: &mut impl BufMut, number: u32, value: i64) {
    if value != 0 {
        put_key(out, number, VARINT);
        encode_varint(value.cast_unsigned(), out);
    }
}

/// proto3 leaves out what is empty.
fn put_bytes(out: &mut impl BufMut, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_key(out, number, LENGTH_DELIMITED);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

fn int_len(value: i64) -> usize {
    if value == 0 { 0 } else { KEY_LEN + encoded_len_varint(value.cast_unsigned()) }
}

fn text_len(length: usize) -> usize {
    if length == 0 { 0 } else { bytes_len(length) }
}

fn bytes_len(length: usize) -> usize {
    KEY_LEN + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
