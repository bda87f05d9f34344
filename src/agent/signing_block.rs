//! The parts of an APK that its signature is about, and the APK Signing Block with schemes v2, v3 and v3.1.
//!
//! ```text
//!     ┌──────────────┬────────────────────┬───────────────────┬─────┐
//!     │ ZIP entries  │ APK Signing Block  │ central directory │ EOCD│
//!     └──────────────┴────────────────────┴───────────────────┴─────┘
//!       u64 size │ (u64 length, u32 id, value)… │ u64 size │ "APK Sig Block 42"
//!
//!     value of a scheme: prefixed sequence of prefixed signers, each prefixed by a u32 length
//!     signer: signed data { digests, certificates, [sdk range], attributes }, [sdk range], signatures, public key
//! ```
//!
//! The format is Android's published text, <https://source.android.com/docs/security/features/apksigning/v2> and `/v3`. Numbers
//! are little-endian. This file only takes bytes apart; [`super::signature`] judges them.
//!
//! Invariant: no input panics, and nothing is allocated by a length that the input claims (`any_bytes_are_parsed_or_refused`).

use std::ops::{Range, RangeInclusive};

/// The longest end-of-central-directory record: 22 bytes and a comment of 65,535.
pub const EOCD_LEN_MAX: usize = EOCD_LEN_MIN + u16::MAX as usize;
/// The longest signing block that is read, in bytes; those of large apps have some 10 KiB.
pub const BLOCK_LEN_MAX: u64 = 16 * 1024 * 1024;
/// The footer of a signing block: its size once more, and the magic.
pub const FOOTER_LEN: u64 = 24;

const EOCD_LEN_MIN: usize = 22;
const EOCD_MAGIC: [u8; 4] = *b"PK\x05\x06";
const ZIP64_LOCATOR_MAGIC: [u8; 4] = *b"PK\x06\x07";
const ZIP64_LOCATOR_LEN: usize = 20;
const BLOCK_MAGIC: &[u8; 16] = b"APK Sig Block 42";
const V2_ID: u32 = 0x7109_871a;
const V3_ID: u32 = 0xf053_68c0;
const V31_ID: u32 = 0x1b93_ad61;
/// As many signers as Android's own verifier takes.
const SIGNERS_MAX: usize = 10;
/// No signer has more digests, signatures, certificates or attributes than that.
const ITEMS_MAX: usize = 64;

/// Bytes that are no APK or no signing block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The file has no end-of-central-directory record.
    #[error(
        "it is no whole ZIP archive: the end of the central directory is missing, so it was cut short or is another kind of file"
    )]
    NoEnd,
    /// The archive is laid out in a way that Android does not allow for APKs.
    #[error("its ZIP archive is malformed: {what}")]
    Zip {
        /// What is wrong.
        what: &'static str,
    },
    /// There is no signing block before the central directory.
    #[error("it has no APK Signing Block")]
    NoBlock,
    /// A field of the block runs over the end of what it lies in.
    #[error("its signing block is malformed: {field} wants {wanted} bytes at offset {offset}, and {left} are left")]
    Short {
        /// Which field.
        field: &'static str,
        /// Where it begins, in its enclosing part.
        offset: usize,
        /// What it claims.
        wanted: u64,
        /// What there is.
        left: usize,
    },
    /// A field has a value that makes no sense.
    #[error("its signing block is malformed: {what}")]
    Value {
        /// What is wrong.
        what: &'static str,
    },
}

/// Where the end-of-central-directory record and the central directory lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipEnd {
    /// Bytes of the central directory within the file.
    pub central_directory: Range<u64>,
    /// The record itself; its bytes 16 to 20 hold the offset of the central directory.
    pub record: Vec<u8>,
}

impl ZipEnd {
    /// Finds the record in the last bytes of a file of `file_len` bytes. The tail must hold [`EOCD_LEN_MAX`] bytes and the
    /// 20 before them, or the whole file.
    ///
    /// # Errors
    /// [`BlockError::NoEnd`] if there is none, [`BlockError::Zip`] if it does not end the file or does not fit it.
    pub fn find(tail: &[u8], file_len: u64) -> Result<Self, BlockError> {
        let at = (0..=tail.len().saturating_sub(EOCD_LEN_MIN))
            .rev()
            .take(EOCD_LEN_MAX)
            .find(|at| ends_the_file(tail, *at))
            .ok_or(BlockError::NoEnd)?;
        let (before, record) = tail.split_at(at);
        let zip64 = before.len().checked_sub(ZIP64_LOCATOR_LEN).and_then(|from| before.get(from..));
        if zip64.is_some_and(|bytes| bytes.starts_with(&ZIP64_LOCATOR_MAGIC)) {
            return Err(BlockError::Zip { what: "it is a ZIP64 archive, which Android does not install" });
        }
        let mut fields = Reader::new(record.get(12..20).unwrap_or_default());
        let size = u64::from(fields.u32("size of the central directory")?);
        let from = u64::from(fields.u32("offset of the central directory")?);
        let record_at = file_len.saturating_sub(record.len() as u64);
        if from + size != record_at {
            return Err(BlockError::Zip { what: "its central directory does not end where its end record begins" });
        }
        Ok(Self { central_directory: from..record_at, record: record.to_vec() })
    }

    /// The record as it was signed: the offset of the central directory replaced by that of the signing block.
    #[must_use]
    pub fn signed_record(&self, block_at: u32) -> Vec<u8> {
        let mut record = self.record.clone();
        if let Some(offset) = record.get_mut(16..20) {
            offset.copy_from_slice(&block_at.to_le_bytes());
        }
        record
    }
}

/// Whether an end record begins at `at` whose comment reaches exactly to the end.
fn ends_the_file(tail: &[u8], at: usize) -> bool {
    let Some(record) = tail.get(at..) else { return false };
    let comment = record.get(20..).and_then(<[u8]>::first_chunk).map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
    record.starts_with(&EOCD_MAGIC) && comment == record.len().checked_sub(EOCD_LEN_MIN)
}

/// The bytes that the signing block takes, from the [`FOOTER_LEN`] bytes before the central directory.
///
/// # Errors
/// [`BlockError::NoBlock`] if they are no footer, [`BlockError::Value`] if the size can't be.
pub fn block_range(footer: &[u8], central_directory_at: u64) -> Result<Range<u64>, BlockError> {
    let mut fields = Reader::new(footer);
    let size = fields.u64("size of the signing block").map_err(|_| BlockError::NoBlock)?;
    if fields.rest() != BLOCK_MAGIC {
        return Err(BlockError::NoBlock);
    }
    if !(FOOTER_LEN..=BLOCK_LEN_MAX).contains(&size) {
        return Err(BlockError::Value { what: "its size is not one that a signing block can have" });
    }
    let from = central_directory_at.checked_sub(size + 8);
    let from = from.ok_or(BlockError::Value { what: "its size is larger than what lies before it" })?;
    Ok(from..central_directory_at)
}

/// The schemes of a signing block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningBlock<'a> {
    /// Scheme v2 (Android 7).
    pub v2: Option<Vec<Signer<'a>>>,
    /// Scheme v3 (Android 9).
    pub v3: Option<Vec<Signer<'a>>>,
    /// Scheme v3.1 (Android 13).
    pub v31: Option<Vec<Signer<'a>>>,
}

/// One signer of one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer<'a> {
    /// The bytes that are signed.
    pub signed_data: &'a [u8],
    /// Digests of the content by the id of their signature algorithm.
    pub digests: Vec<(u32, &'a [u8])>,
    /// X.509 certificates in DER; the first holds the key.
    pub certificates: Vec<&'a [u8]>,
    /// Signed attributes by id.
    pub attributes: Vec<(u32, &'a [u8])>,
    /// The Android versions (SDK numbers) that it is for; v3 and v3.1 only.
    pub sdks: Option<RangeInclusive<u32>>,
    /// Signatures over the signed data by the id of their algorithm.
    pub signatures: Vec<(u32, &'a [u8])>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
}

impl<'a> SigningBlock<'a> {
    /// Takes a whole block apart, both sizes and the magic included. Values of other ids are skipped, as the format asks.
    ///
    /// # Errors
    /// [`BlockError`] with the field that does not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlockError> {
        let mut reader = Reader::new(bytes);
        let size = reader.u64("size of the signing block")?;
        let body = reader.take(size.saturating_sub(FOOTER_LEN), "pairs of the signing block")?;
        if reader.u64("second size of the signing block")? != size || size < FOOTER_LEN {
            return Err(BlockError::Value { what: "its two sizes differ" });
        }
        if reader.rest() != BLOCK_MAGIC {
            return Err(BlockError::NoBlock);
        }
        let mut block = Self::default();
        let mut pairs = Reader::new(body);
        while !pairs.is_empty() {
            let length = pairs.u64("length of a pair")?;
            let mut pair = Reader::new(pairs.take(length, "a pair")?);
            let (place, kind) = match pair.u32("id of a pair")? {
                V2_ID => (&mut block.v2, Scheme::V2),
                V3_ID => (&mut block.v3, Scheme::V3),
                V31_ID => (&mut block.v31, Scheme::V3),
                _ => continue,
            };
            if place.replace(signers(pair.rest(), kind)?).is_some() {
                return Err(BlockError::Value { what: "it holds one scheme twice" });
            }
        }
        Ok(block)
    }
}

/// The two shapes of a signer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    V2,
    V3,
}

fn signers(value: &[u8], scheme: Scheme) -> Result<Vec<Signer<'_>>, BlockError> {
    let mut value = Reader::new(value);
    let mut sequence = Reader::new(value.prefixed("signers")?);
    value.finish("bytes follow the signers")?;
    let mut signers = Vec::new();
    while !sequence.is_empty() {
        if signers.len() == SIGNERS_MAX {
            return Err(BlockError::Value { what: "it has more than 10 signers" });
        }
        signers.push(signer(sequence.prefixed("a signer")?, scheme)?);
    }
    if signers.is_empty() {
        return Err(BlockError::Value { what: "a scheme has no signer" });
    }
    Ok(signers)
}

fn signer(bytes: &[u8], scheme: Scheme) -> Result<Signer<'_>, BlockError> {
    let mut reader = Reader::new(bytes);
    let signed_data = reader.prefixed("signed data")?;
    let outer_sdks = reader.sdks(scheme)?;
    let signatures = tagged(reader.prefixed("signatures")?, "a signature")?;
    let public_key = reader.prefixed("the public key")?;
    reader.finish("bytes follow the public key")?;

    // What follows the attributes is signed and ignored: Android's own tool has written four zero bytes there.
    let mut signed = Reader::new(signed_data);
    let digests = tagged(signed.prefixed("digests")?, "a digest")?;
    let certificates = sequence(signed.prefixed("certificates")?, "a certificate")?;
    let sdks = signed.sdks(scheme)?;
    if sdks != outer_sdks {
        return Err(BlockError::Value { what: "the Android versions in and beside the signed data differ" });
    }
    let attributes = attributes(signed.prefixed("attributes")?)?;
    Ok(Signer { signed_data, digests, certificates, attributes, sdks, signatures, public_key })
}

fn sequence<'a>(bytes: &'a [u8], field: &'static str) -> Result<Vec<&'a [u8]>, BlockError> {
    let mut reader = Reader::new(bytes);
    let mut items = Vec::new();
    while !reader.is_empty() {
        if items.len() == ITEMS_MAX {
            return Err(BlockError::Value { what: "a sequence has more than 64 items" });
        }
        items.push(reader.prefixed(field)?);
    }
    Ok(items)
}

/// A sequence of (u32 id, prefixed bytes), each pair prefixed by its length.
fn tagged<'a>(bytes: &'a [u8], field: &'static str) -> Result<Vec<(u32, &'a [u8])>, BlockError> {
    let item = |item: &'a [u8]| {
        let mut reader = Reader::new(item);
        let pair = (reader.u32(field)?, reader.prefixed(field)?);
        reader.finish("bytes follow a signature or a digest")?;
        Ok(pair)
    };
    sequence(bytes, field)?.into_iter().map(item).collect()
}

/// A sequence of (u32 id, value to the end), each prefixed by its length.
fn attributes(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, BlockError> {
    let item = |item| {
        let mut reader = Reader::new(item);
        Ok((reader.u32("id of an attribute")?, reader.rest()))
    };
    sequence(bytes, "an attribute")?.into_iter().map(item).collect()
}

/// Reads forward; every step is checked against what is left.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn take(&mut self, wanted: u64, field: &'static str) -> Result<&'a [u8], BlockError> {
        let rest = self.rest();
        let short = BlockError::Short { field, offset: self.at, wanted, left: rest.len() };
        let wanted = usize::try_from(wanted).map_err(|_| short.clone())?;
        let taken = rest.get(..wanted).ok_or(short)?;
        self.at += wanted;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], BlockError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, BlockError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, BlockError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Bytes after their u32 length.
    fn prefixed(&mut self, field: &'static str) -> Result<&'a [u8], BlockError> {
        let length = self.u32(field)?;
        self.take(u64::from(length), field)
    }

    fn sdks(&mut self, scheme: Scheme) -> Result<Option<RangeInclusive<u32>>, BlockError> {
        if scheme == Scheme::V2 {
            return Ok(None);
        }
        let (min, max) = (self.u32("the lowest Android version")?, self.u32("the highest Android version")?);
        if min > max {
            return Err(BlockError::Value { what: "the lowest Android version is above the highest" });
        }
        Ok(Some(min..=max))
    }

    fn finish(&self, what: &'static str) -> Result<(), BlockError> {
        if self.is_empty() { Ok(()) } else { Err(BlockError::Value { what }) }
    }
}

/// What the fuzz target calls: any bytes as the tail of a file, as a footer and as a block.
pub fn fuzz_apk_signing_block(bytes: &[u8]) {
    drop(ZipEnd::find(bytes, bytes.len() as u64));
    drop(block_range(bytes, bytes.len() as u64));
    drop(SigningBlock::parse(bytes));
}
