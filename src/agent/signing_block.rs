//! The APK Signing Block with schemes v2, v3 and v3.1, which lies between a ZIP's entries and its central directory.
//!
//! ```text
//!     block: u64 size │ (u64 length, u32 id, value)… │ u64 size │ "APK Sig Block 42"
//!
//!     value of a scheme: prefixed sequence of prefixed signers, each prefixed by a u32 length
//!     signer: signed data { digests, certificates, [sdk range], attributes }, [sdk range], signatures, public key
//! ```
//!
//! The format is Android's published text, <https://source.android.com/docs/security/features/apksigning/v2> and `/v3`. Numbers
//! are little-endian. This file only takes bytes apart; [`super::signature`] judges them.
//!
//! Invariant: no input panics, and nothing is allocated by a length that the input claims (`any_bytes_are_parsed_or_refused`).

use std::fmt;
use std::ops::{Range, RangeInclusive};

use super::reader::{Reader, Short};

/// The longest signing block that is read, in bytes; those of large apps have some 10 KiB.
pub const BLOCK_LEN_MAX: u64 = 16 * 1024 * 1024;
/// The footer of a signing block: its size once more, and the magic.
pub const FOOTER_LEN: u64 = 24;

const BLOCK_MAGIC: &[u8; 16] = b"APK Sig Block 42";
const V2_ID: u32 = 0x7109_871a;
const V3_ID: u32 = 0xf053_68c0;
const V31_ID: u32 = 0x1b93_ad61;
/// The highest SDK number that signers write: every version to come.
pub const SDK_MAX: u32 = i32::MAX.cast_unsigned();
/// As many signers as Android's own verifier takes.
const SIGNERS_MAX: usize = 10;
/// No signer has more digests, signatures, certificates or attributes than that.
const ITEMS_MAX: usize = 64;

/// Bytes that are no signing block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There is no signing block before the central directory.
    #[error("it has no APK Signing Block")]
    NoBlock,
    /// A field of the block runs over the end of what it lies in.
    #[error("its signing block is malformed: {0}")]
    Short(#[from] Short),
    /// A field has a value that makes no sense.
    #[error("its signing block is malformed: {what}")]
    Value {
        /// What is wrong.
        what: &'static str,
    },
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

/// The schemes of a signing block, each a value for [`signers`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningBlock<'a> {
    /// Scheme v2 (Android 7).
    pub v2: Option<&'a [u8]>,
    /// Scheme v3 (Android 9).
    pub v3: Option<&'a [u8]>,
    /// Scheme v3.1 (Android 13).
    pub v31: Option<&'a [u8]>,
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
    /// Takes a whole block apart, both sizes and the magic included.
    ///
    /// Phones look for one id after the other and stop at the first pair that has it, or that does not fit: values of other ids
    /// are skipped, so is a scheme that is there a second time, and what follows a pair that does not fit was never there.
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
        while let Some((id, value)) = pair(&mut pairs) {
            let place = match id {
                V2_ID => &mut block.v2,
                V3_ID => &mut block.v3,
                V31_ID => &mut block.v31,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        Ok(block)
    }
}

/// The next pair; `None` at the end, and at a pair that does not fit.
fn pair<'a>(pairs: &mut Reader<'a>) -> Option<(u32, &'a [u8])> {
    let length = pairs.u64("length of a pair").ok()?;
    let mut pair = Reader::new(pairs.take(length, "a pair").ok()?);
    Some((pair.u32("id of a pair").ok()?, pair.rest()))
}

/// A scheme of signing; the order is that of their coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Android 7 (SDK 24).
    V2,
    /// Android 9 (SDK 28): Android versions for each signer, and rotation.
    V3,
    /// Android 13 (SDK 33): as v3, for rotation that older versions must not see.
    V31,
}

impl Scheme {
    /// The first Android version (SDK number) that knows it.
    #[must_use]
    pub const fn since(self) -> u32 {
        match self {
            Self::V2 => 24,
            Self::V3 => 28,
            Self::V31 => 33,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::V31 => "v3.1",
        })
    }
}

/// Takes the value of a scheme apart.
///
/// # Errors
/// [`BlockError`] with the field that does not fit.
pub fn signers(value: &[u8], scheme: Scheme) -> Result<Vec<Signer<'_>>, BlockError> {
    let mut sequence = Reader::new(Reader::new(value).prefixed("signers")?);
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
    let outer_sdks = sdks(&mut reader, scheme)?;
    let signatures = tagged(reader.prefixed("signatures")?, "a signature")?;
    let public_key = reader.prefixed("the public key")?;

    // What follows a part is ignored here as on a phone; after the attributes, Android's own tool has written four zero bytes.
    let mut signed = Reader::new(signed_data);
    let digests = tagged(signed.prefixed("digests")?, "a digest")?;
    let certificates = sequence(signed.prefixed("certificates")?, "a certificate")?;
    let sdks = sdks(&mut signed, scheme)?;
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
        Ok((reader.u32(field)?, reader.prefixed(field)?))
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

/// The Android versions of a signer: the platform reads them as signed numbers.
fn sdks(reader: &mut Reader<'_>, scheme: Scheme) -> Result<Option<RangeInclusive<u32>>, BlockError> {
    if scheme == Scheme::V2 {
        return Ok(None);
    }
    let (min, max) = (reader.u32("the lowest Android version")?, reader.u32("the highest Android version")?);
    if min > max || max > SDK_MAX {
        return Err(BlockError::Value { what: "the lowest Android version is above the highest" });
    }
    Ok(Some(min..=max))
}

/// What the fuzz target calls: any bytes as a footer and as a block, and the attributes in it as proofs of rotation.
pub fn fuzz_apk_signing_block(bytes: &[u8]) {
    drop(block_range(bytes, bytes.len() as u64));
    let Ok(block) = SigningBlock::parse(bytes) else { return };
    for (scheme, value) in [(Scheme::V2, block.v2), (Scheme::V3, block.v3), (Scheme::V31, block.v31)] {
        for signer in value.map(|value| signers(value, scheme)).into_iter().flatten().flatten() {
            for (_, value) in &signer.attributes {
                drop(super::lineage::parse(value));
            }
        }
    }
}
