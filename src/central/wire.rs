//! Protobuf's wire format, field by field and without a decode: for views of bytes that are passed on as they came.
//!
//! It takes and refuses exactly what prost does (`a_view_sees_what_prost_sees` in `envelope`).

use thiserror::Error;

/// Groups inside unknown fields may nest as deep as prost lets them.
const DEPTH_MAX: usize = 100;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its number, from 1.
    pub(super) number: u32,
    /// What it holds.
    pub(super) value: Value<'a>,
    /// All of its bytes, with the key.
    pub(super) raw: &'a [u8],
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// Fixed-size numbers and groups: nothing here looks into them.
    Opaque,
}

/// Why bytes are not protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// They end inside a field.
    #[error("the bytes end inside a field, at offset {offset}")]
    Truncated {
        /// Where, from the start of the message.
        offset: usize,
    },
    /// A number of variable length is longer than 64 bits.
    #[error("the number at offset {offset} is longer than 64 bits")]
    Varint {
        /// Where.
        offset: usize,
    },
    /// A key names no field, or no wire type.
    #[error("the key {key:#x} at offset {offset} is no field of protobuf")]
    Key {
        /// Where.
        offset: usize,
        /// What was read.
        key: u64,
    },
    /// A group that was not begun ends, or groups nest too deep.
    #[error("the group at offset {offset} does not match, or nests deeper than {DEPTH_MAX}")]
    Group {
        /// Where.
        offset: usize,
    },
}

/// Reads the fields of one message in turn.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the reader is, from the start of the message.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The next field; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::Bytes => Value::Bytes(self.bytes()?),
            WireType::Fixed64 => self.skip(8)?,
            WireType::Fixed32 => self.skip(4)?,
            WireType::GroupStart => self.group(number, 1)?,
            WireType::GroupEnd => return Err(WireError::Group { offset: start }),
        };
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Some(Field { number, value, raw }))
    }

    fn key(&mut self) -> Result<(u32, WireType), WireError> {
        let offset = self.at;
        let key = self.varint()?;
        let bad = WireError::Key { offset, key };
        let narrow = u32::try_from(key).map_err(|_| bad)?;
        let number = narrow >> 3;
        let wire_type = WireType::new(narrow & 7).filter(|_| number > 0).ok_or(bad)?;
        Ok((number, wire_type))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated { offset: self.at })?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit only.
                return if shift == 63 && byte > 1 { Err(WireError::Varint { offset: start }) } else { Ok(value) };
            }
        }
        Err(WireError::Varint { offset: start })
    }

    fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        let truncated = WireError::Truncated { offset: self.at };
        let end = usize::try_from(length).ok().and_then(|n| self.at.checked_add(n)).ok_or(truncated)?;
        let bytes = self.bytes.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<Value<'a>, WireError> {
        let truncated = WireError::Truncated { offset: self.at };
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or(truncated)?;
        self.at = end;
        Ok(Value::Opaque)
    }

    fn group(&mut self, number: u32, depth: usize) -> Result<Value<'a>, WireError> {
        if depth > DEPTH_MAX {
            return Err(WireError::Group { offset: self.at });
        }
        loop {
            let offset = self.at;
            let (inner, wire_type) = self.key()?;
            match wire_type {
                WireType::GroupEnd if inner == number => return Ok(Value::Opaque),
                WireType::GroupEnd => return Err(WireError::Group { offset }),
                WireType::GroupStart => self.group(inner, depth + 1)?,
                WireType::Varint => self.varint().map(Value::Varint)?,
                WireType::Bytes => self.bytes().map(Value::Bytes)?,
                WireType::Fixed64 => self.skip(8)?,
                WireType::Fixed32 => self.skip(4)?,
            };
        }
    }
}

#[derive(Clone, Copy)]
enum WireType {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

impl WireType {
    fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Varint,
            1 => Self::Fixed64,
            2 => Self::Bytes,
            3 => Self::GroupStart,
            4 => Self::GroupEnd,
            5 => Self::Fixed32,
            _ => return None,
        })
    }
}
