//! The proof of rotation of scheme v3: each signing certificate of an app vouches for the one after it.
//!
//! ```text
//!     u32 version 1, then for each certificate, prefixed by its u32 length:
//!       prefixed signed data { prefixed certificate, u32 algorithm of the one before }
//!       u32 flags, u32 algorithm that signs the next one, prefixed signature of the one before over the signed data
//! ```
//!
//! This file only takes it apart; [`super::signature`] judges it. The format is Android's published text,
//! <https://source.android.com/docs/security/features/apksigning/v3>.

use super::reader::Reader;
use super::signing_block::BlockError;

/// The only version there is.
const VERSION: u32 = 1;
/// More generations than any app will see.
const LINKS_MAX: usize = 64;

/// One certificate of a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// What the certificate before this one has signed.
    pub signed_data: &'a [u8],
    /// X.509 in DER.
    pub certificate: &'a [u8],
    /// The algorithm of the certificate before, as this link says; 0 in the first.
    pub parent_algorithm: u32,
    /// What the phone still grants to it: bit 0, apps that it signed may be updated by the newer ones.
    pub flags: u32,
    /// The algorithm by which it signs the next link; 0 in the last.
    pub algorithm: u32,
    /// The signature of the certificate before, over the signed data; empty in the first.
    pub signature: &'a [u8],
}

/// Takes the value of the attribute apart, the oldest certificate first.
///
/// # Errors
/// [`BlockError`] with the field that does not fit.
pub fn parse(value: &[u8]) -> Result<Vec<Link<'_>>, BlockError> {
    let mut reader = Reader::new(value);
    if reader.u32("version of the proof of rotation")? != VERSION {
        return Err(BlockError::Value { what: "its proof of rotation has a version that is not known" });
    }
    let mut links = Vec::new();
    while !reader.is_empty() {
        if links.len() == LINKS_MAX {
            return Err(BlockError::Value { what: "its proof of rotation has more than 64 certificates" });
        }
        links.push(link(reader.prefixed("a link of the proof of rotation")?)?);
    }
    if links.is_empty() {
        return Err(BlockError::Value { what: "its proof of rotation is empty" });
    }
    Ok(links)
}

fn link(bytes: &[u8]) -> Result<Link<'_>, BlockError> {
    let mut reader = Reader::new(bytes);
    let signed_data = reader.prefixed("signed data of a link")?;
    let (flags, algorithm) = (reader.u32("flags of a link")?, reader.u32("algorithm of a link")?);
    let signature = reader.prefixed("signature of a link")?;
    let mut signed = Reader::new(signed_data);
    let certificate = signed.prefixed("certificate of a link")?;
    let parent_algorithm = signed.u32("algorithm of the link before")?;
    Ok(Link { signed_data, certificate, parent_algorithm, flags, algorithm, signature })
}
