//! Reads bytes forward; every step is checked against what is left. What every part of an APK is taken apart with.

/// A field runs over the end of what it lies in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} wants {wanted} bytes at offset {offset}, and {left} are left")]
pub struct Short {
    /// Which field.
    pub field: &'static str,
    /// Where it begins, in its enclosing part.
    pub offset: usize,
    /// What it claims.
    pub wanted: u64,
    /// What there is.
    pub left: usize,
}

/// A position in bytes of the APK; numbers are little-endian.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn take(&mut self, wanted: u64, field: &'static str) -> Result<&'a [u8], Short> {
        let rest = self.rest();
        let short = Short { field, offset: self.at, wanted, left: rest.len() };
        let wanted = usize::try_from(wanted).map_err(|_| short.clone())?;
        let taken = rest.get(..wanted).ok_or(short)?;
        self.at += wanted;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Short> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Short> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Short> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Short> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Bytes after their u32 length.
    pub(super) fn prefixed(&mut self, field: &'static str) -> Result<&'a [u8], Short> {
        let length = self.u32(field)?;
        self.take(u64::from(length), field)
    }
}
