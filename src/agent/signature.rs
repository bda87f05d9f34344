//! Verifies APK Signature Scheme v2, v3 and v3.1 over the whole content of an APK.
//!
//! Every scheme that some Android from the APK's own lowest on looks at must hold:
//!
//! - each signature that some Android would choose verifies over the signed data, with the key of the signer's certificate;
//! - digests and signatures list the same algorithms, and the digests are those of the content;
//! - a scheme that an older one names is there: taking it away is seen (stripping protection);
//! - the signers of v3 and v3.1 reach from the lowest Android to the newest without holes, and their proofs of rotation go from
//!   the certificate of v2 to their own, each signed by the one before.
//!
//! These are the rules of Google's own `apksigner verify`, which is the judge of this file in `tests/apks`. The JAR signature of
//! old (v1) does not cover the whole file, and is never enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::{Range, RangeInclusive};

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

use super::algorithm::{Algorithm, ContentDigest, certified_key};
use super::archive::{ArchiveError, read, read_end};
use super::content::{Content, PAGE_LEN};
use super::fit::{Ancestor, SdkSigner, Trust};
use super::lineage::{self, Link};
use super::signing_block::{self, BlockError, SDK_MAX, Scheme, Signer, SigningBlock};
use super::zip::{self, ZipEnd};

/// In v2: the APK was also signed by the scheme of this number.
const STRIPPING_PROTECTION: u32 = 0xbeef_f00d;
/// In v3: from this SDK on v3.1 holds the signer.
const ROTATION_MIN_SDK: u32 = 0x559f_8b02;
/// In v3.1: it is for a version still in development, which has the number of the last one.
const FOR_DEVELOPMENT_RELEASE: u32 = 0xc2a6_b3ba;
/// In v3 and v3.1: how the key got from the first certificate to this one.
const PROOF_OF_ROTATION: u32 = 0x3ba0_6f8c;

/// Who signed an APK: for each Android the first entry whose versions hold it. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// The newest scheme first.
    pub by_sdk: Vec<SdkSigner>,
}

impl Signatures {
    /// SHA-256 of the certificate that the newest Android takes as the signer, in lower-case hex.
    #[must_use]
    pub fn newest(&self) -> &str {
        let newest = self.by_sdk.iter().max_by_key(|signer| *signer.sdks.end());
        newest.and_then(|signer| signer.certificates.first()).map_or("", String::as_str)
    }

    /// Every certificate that some Android takes as the signer.
    #[must_use]
    pub fn all(&self) -> BTreeSet<&str> {
        self.by_sdk.iter().flat_map(|signer| &signer.certificates).map(String::as_str).collect()
    }
}

/// Why the signature of an APK is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is no whole archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It has no signing block, or a malformed one.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// There is a signing block without a scheme that covers the whole file.
    #[error("it is signed by none of the schemes v2, v3 and v3.1")]
    NoScheme,
    /// Only the JAR signature of old is there.
    #[error(
        "it is signed by scheme v1 only, which does not cover the whole file; sign it with `apksigner`, v2 or newer"
    )]
    OnlyV1,
    /// A newer scheme was taken away.
    #[error("its {present} signature says that {missing} is there too, and it is not: it was stripped")]
    Stripped {
        /// The scheme that says so.
        present: Scheme,
        /// The one that is gone.
        missing: Scheme,
    },
    /// No signature of an algorithm that the phones know.
    #[error("its {scheme} signer has no signature that Android of SDK {sdk} knows ({seen})")]
    Algorithms {
        /// The scheme.
        scheme: Scheme,
        /// The lowest Android that it is for.
        sdk: u32,
        /// The algorithms that there are.
        seen: String,
    },
    /// The content was changed.
    #[error("its content is not what was signed ({scheme}): some bytes of the APK were changed")]
    Tampered {
        /// The scheme that says so.
        scheme: Scheme,
    },
    /// A signer does not hold together.
    #[error("its {scheme} signature is not valid: {what}")]
    Invalid {
        /// The scheme.
        scheme: Scheme,
        /// What is wrong.
        what: &'static str,
    },
    /// The file could not be read.
    #[error("it could not be read: {0}")]
    Read(#[from] io::Error),
}

/// Verifies every scheme that some Android from `lowest_sdk` (the APK's `minSdkVersion`) on looks at.
///
/// # Errors
/// [`SignatureError`] with the first thing that does not hold.
pub fn verify(file: &File, lowest_sdk: u32) -> Result<Signatures, SignatureError> {
    let end = read_end(file)?;
    let range = match block_range(file, &end) {
        Err(SignatureError::Block(BlockError::NoBlock)) if has_v1(file, &end)? => return Err(SignatureError::OnlyV1),
        other => other?,
    };
    let bytes = read(file, &range)?;
    let block = SigningBlock::parse(&bytes)?;
    let judge = Judge { content: Digests::new(file, &end, &range), lowest_sdk: lowest_sdk.max(Scheme::V2.since()) };
    judge.schemes(&block)
}

/// Where the signing block lies.
fn block_range(file: &File, end: &ZipEnd) -> Result<Range<u64>, SignatureError> {
    let at = end.central_directory.start;
    let footer_at = at.checked_sub(signing_block::FOOTER_LEN).ok_or(BlockError::NoBlock)?;
    let footer = read(file, &(footer_at..at))?;
    Ok(signing_block::block_range(&footer, at)?)
}

/// Whether the archive lists a JAR signature. Only for the sentence: such an APK is refused either way.
fn has_v1(file: &File, end: &ZipEnd) -> io::Result<bool> {
    let range = &end.central_directory;
    let names = read(file, &(range.start..range.end.min(range.start + zip::DIRECTORY_LEN_MAX)))?;
    let holds = |part: &[u8]| names.windows(part.len()).any(|window| window == part);
    Ok(holds(b"META-INF/") && holds(b".SF"))
}

/// A signer that holds, its digests of the content aside.
struct Held<'a> {
    signer: Signer<'a>,
    /// The first certificate: the one that counts.
    certificate: &'a [u8],
    lineage: Vec<Link<'a>>,
    /// Digests that some Android would look at.
    digests: BTreeSet<ContentDigest>,
}

impl Held<'_> {
    fn sdks(&self) -> RangeInclusive<u32> {
        self.signer.sdks.clone().unwrap_or(0..=SDK_MAX)
    }
}

struct Judge<'a> {
    content: Digests<'a>,
    lowest_sdk: u32,
}

impl Judge<'_> {
    fn schemes(mut self, block: &SigningBlock<'_>) -> Result<Signatures, SignatureError> {
        let v31 = self.newer(Scheme::V31, block.v31, None)?;
        let rotated_from = v31.iter().map(|held| *held.sdks().start()).min();
        let v3 = self.newer(Scheme::V3, block.v3, rotated_from)?;
        if !v31.is_empty() && v3.is_empty() {
            return Err(SignatureError::Invalid {
                scheme: Scheme::V31,
                what: "it stands alone, without a v3 signature",
            });
        }
        let v2 = if self.lowest_sdk < Scheme::V3.since() || v3.is_empty() { self.v2(block.v2)? } else { Vec::new() };
        let says_v3 = |held: &Held<'_>| attribute(Scheme::V2, &held.signer, STRIPPING_PROTECTION);
        for held in &v2 {
            if says_v3(held)?.contains(&3) && v3.is_empty() {
                return Err(SignatureError::Stripped { present: Scheme::V2, missing: Scheme::V3 });
            }
        }
        if !v3.is_empty() && !v2.is_empty() {
            refuse_other_past(&v2, &v3, &v31)?;
        }
        let mut by_sdk: Vec<_> = v31.iter().map(|held| told(held, Scheme::V31)).collect();
        by_sdk.extend(v3.iter().map(|held| told(held, Scheme::V3)));
        if !v2.is_empty() {
            let last = if v3.is_empty() { SDK_MAX } else { Scheme::V3.since() - 1 };
            let certificates = v2.iter().map(|held| hex(&Sha256::digest(held.certificate))).collect();
            by_sdk.push(SdkSigner { sdks: Scheme::V2.since()..=last, certificates, ancestors: Vec::new() });
        }
        if by_sdk.is_empty() { Err(SignatureError::NoScheme) } else { Ok(Signatures { by_sdk }) }
    }

    fn v2<'b>(&mut self, value: Option<&'b [u8]>) -> Result<Vec<Held<'b>>, SignatureError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let held = signing_block::signers(value, Scheme::V2)?.into_iter().map(|signer| {
            let sdks = self.lowest_sdk..=SDK_MAX;
            hold(Scheme::V2, signer, &sdks)
        });
        let held: Vec<_> = held.collect::<Result<_, _>>()?;
        self.content.compare(Scheme::V2, &held)?;
        Ok(held)
    }

    /// The signers of v3 or v3.1, from the lowest Android on.
    fn newer<'b>(
        &mut self,
        scheme: Scheme,
        value: Option<&'b [u8]>,
        rotated_from: Option<u32>,
    ) -> Result<Vec<Held<'b>>, SignatureError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let mut by_last = BTreeMap::new();
        for signer in signing_block::signers(value, scheme)? {
            let sdks = signer.sdks.clone().unwrap_or(0..=SDK_MAX);
            let held = hold(scheme, signer, &sdks)?;
            for said in attribute(scheme, &held.signer, ROTATION_MIN_SDK)? {
                if rotated_from != Some(said) {
                    return Err(SignatureError::Stripped { present: scheme, missing: Scheme::V31 });
                }
            }
            if by_last.insert(*sdks.end(), held).is_some() {
                return Err(SignatureError::Invalid { scheme, what: "two signers are for the same Android versions" });
            }
        }
        let held: Vec<_> = by_last.into_values().collect();
        self.content.compare(scheme, &held)?;
        self.refuse_holes(scheme, &held, rotated_from)?;
        longest_lineage(scheme, &held)?;
        Ok(held)
    }

    /// Signers in the order of their versions leave none out, and none has a shorter past than the one before.
    fn refuse_holes(&self, scheme: Scheme, held: &[Held<'_>], rotated_from: Option<u32>) -> Result<(), SignatureError> {
        let invalid = |what| Err(SignatureError::Invalid { scheme, what });
        for pair in held.windows(2) {
            let [earlier, later] = pair else { continue };
            let (last, first) = (*earlier.sdks().end(), *later.sdks().start());
            let in_development = later.signer.attributes.iter().any(|(id, _)| *id == FOR_DEVELOPMENT_RELEASE);
            if Some(first) != last.checked_add(1) && !(first == last && in_development) {
                return invalid("its signers leave Android versions out, or share some");
            }
        }
        let pasts = held.iter().map(|held| held.lineage.len()).filter(|len| *len > 0);
        if !pasts.is_sorted() {
            return invalid("a signer for newer Android versions has a shorter past");
        }
        let lowest = self.lowest_sdk.max(scheme.since());
        let newest = rotated_from.map_or(SDK_MAX, |sdk| sdk.saturating_sub(1));
        let (first, last) = (held.first().map(Held::sdks), held.last().map(Held::sdks));
        if first.is_none_or(|sdks| *sdks.start() > lowest) || last.is_none_or(|sdks| *sdks.end() < newest) {
            return invalid("its signers do not reach from the APK's lowest Android version to the newest");
        }
        Ok(())
    }
}

fn told(held: &Held<'_>, scheme: Scheme) -> SdkSigner {
    let (sdks, fingerprint) = (held.sdks(), |certificate: &[u8]| hex(&Sha256::digest(certificate)));
    let past = held.lineage.len().saturating_sub(1);
    let ancestor = |link: &Link<'_>| {
        // Bit 0 is PAST_CERT_INSTALLED_DATA.
        let trust = if link.flags & 1 == 1 { Trust::Updates } else { Trust::Nothing };
        Ancestor { certificate: fingerprint(link.certificate), trust }
    };
    SdkSigner {
        sdks: (*sdks.start()).max(scheme.since())..=*sdks.end(),
        certificates: vec![fingerprint(held.certificate)],
        ancestors: held.lineage.iter().take(past).map(ancestor).collect(),
    }
}

/// Judges a signer that is for these Android versions, its digests of the content aside.
fn hold<'a>(scheme: Scheme, signer: Signer<'a>, sdks: &RangeInclusive<u32>) -> Result<Held<'a>, SignatureError> {
    let invalid = |what| SignatureError::Invalid { scheme, what };
    let chosen = chosen_signatures(&signer, sdks).ok_or_else(|| {
        let seen: Vec<_> = signer.signatures.iter().map(|(id, _)| format!("{id:#06x}")).collect();
        SignatureError::Algorithms { scheme, sdk: *sdks.start(), seen: seen.join(", ") }
    })?;
    if !chosen.iter().all(|(algorithm, it)| algorithm.verifies(signer.public_key, signer.signed_data, it)) {
        return Err(invalid("the signature does not match the signed data"));
    }
    let certificate = *signer.certificates.first().ok_or_else(|| invalid("it has no certificate"))?;
    let keys: Option<Vec<_>> = signer.certificates.iter().map(|certificate| certified_key(certificate)).collect();
    let keys = keys.ok_or_else(|| invalid("one of its certificates is none"))?;
    if keys.first().map(Vec::as_slice) != Some(signer.public_key) {
        return Err(invalid("the key is not the one in its certificate"));
    }
    let ids = |items: &[(u32, &[u8])]| items.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    if ids(&signer.digests) != ids(&signer.signatures) {
        return Err(invalid("its digests and its signatures list different algorithms"));
    }
    let proof = signer.attributes.iter().rfind(|(id, _)| *id == PROOF_OF_ROTATION && scheme != Scheme::V2);
    let lineage = match proof {
        Some((_, value)) => proven_lineage(scheme, value, certificate)?,
        None => Vec::new(),
    };
    let digests = chosen.iter().map(|(algorithm, _)| algorithm.digest).collect();
    Ok(Held { certificate, lineage, digests, signer })
}

/// The signatures that some of these Android versions would choose: of the algorithms that came with one version, the strongest.
/// `None` if the lowest of them knows none.
fn chosen_signatures<'a>(signer: &Signer<'a>, sdks: &RangeInclusive<u32>) -> Option<Vec<(Algorithm, &'a [u8])>> {
    let mut strongest: BTreeMap<u32, (Algorithm, &'a [u8])> = BTreeMap::new();
    for (id, signature) in &signer.signatures {
        let Some(algorithm) = Algorithm::of(*id).filter(|algorithm| algorithm.since <= *sdks.end()) else { continue };
        let best = strongest.entry(algorithm.since).or_insert((algorithm, *signature));
        if algorithm.digest > best.0.digest {
            *best = (algorithm, *signature);
        }
    }
    let first = *strongest.keys().next()?;
    (first <= *sdks.start()).then(|| strongest.into_values().collect())
}

/// The values of an attribute that holds a number.
fn attribute(scheme: Scheme, signer: &Signer<'_>, wanted: u32) -> Result<Vec<u32>, SignatureError> {
    let values = signer.attributes.iter().filter(|(id, _)| *id == wanted).map(|(_, value)| {
        let number = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
        number.ok_or(SignatureError::Invalid { scheme, what: "an attribute is too short" })
    });
    values.collect()
}

/// A proof of rotation in which each certificate signs the next, up to the signer's own.
fn proven_lineage<'a>(scheme: Scheme, value: &'a [u8], own: &[u8]) -> Result<Vec<Link<'a>>, SignatureError> {
    let invalid = |what| SignatureError::Invalid { scheme, what };
    let links = lineage::parse(value)?;
    let keys: Option<Vec<_>> = links.iter().map(|link| certified_key(link.certificate)).collect();
    let keys = keys.ok_or_else(|| invalid("a certificate in its proof of rotation is none"))?;
    for (pair, key) in links.windows(2).zip(&keys) {
        let [earlier, later] = pair else { continue };
        let signed = Algorithm::of(earlier.algorithm)
            .is_some_and(|algorithm| algorithm.verifies(key, later.signed_data, later.signature));
        if !signed || later.parent_algorithm != earlier.algorithm {
            return Err(invalid("a certificate in its proof of rotation is not signed by the one before"));
        }
    }
    if links.iter().position(|link| link.certificate == own) != links.len().checked_sub(1) {
        return Err(invalid("its proof of rotation does not end with its own certificate"));
    }
    Ok(links)
}

/// The longest past among signers; the others must be beginnings of it.
fn longest_lineage<'a, 'b>(scheme: Scheme, held: &'b [Held<'a>]) -> Result<&'b [Link<'a>], SignatureError> {
    let longest = held.iter().map(|held| held.lineage.as_slice()).max_by_key(|links| links.len()).unwrap_or_default();
    // The last link of a shorter past names no algorithm, where a longer one does: the certificates are what must agree.
    let begins = |held: &Held<'_>| held.lineage.iter().zip(longest).all(|(a, b)| a.certificate == b.certificate);
    if held.iter().all(begins) {
        return Ok(longest);
    }
    Err(SignatureError::Invalid { scheme, what: "its signers do not have the same past" })
}

/// The signer of v2 is the first of the proof of rotation, or, without one, the signer of v3.
fn refuse_other_past(v2: &[Held<'_>], v3: &[Held<'_>], v31: &[Held<'_>]) -> Result<(), SignatureError> {
    let invalid = |what| Err(SignatureError::Invalid { scheme: Scheme::V3, what });
    let [old] = v2 else { return invalid("v2 has several signers, and v3 allows only one") };
    let newest = longest_lineage(Scheme::V31, v31)?;
    let lineage = if newest.is_empty() { longest_lineage(Scheme::V3, v3)? } else { newest };
    match (lineage.first(), v3) {
        (Some(first), _) if first.certificate == old.certificate => Ok(()),
        (Some(_), _) => invalid("the signer of v2 is not the first in the proof of rotation"),
        (None, [only]) if only.certificate == old.certificate => Ok(()),
        (None, [_]) => invalid("v2 has another signer"),
        (None, _) => invalid("it has several signers and no proof of rotation"),
    }
}

/// Digests of the content, each made when it is first asked for.
struct Digests<'a> {
    content: Content<'a>,
    block: Range<u64>,
    made: BTreeMap<ContentDigest, Vec<u8>>,
}

impl<'a> Digests<'a> {
    fn new(file: &'a File, end: &ZipEnd, block: &Range<u64>) -> Self {
        // A ZIP without ZIP64 is below 4 GiB; a larger offset could not be in the record and fails the digest.
        let record = end.signed_record(u32::try_from(block.start).unwrap_or(u32::MAX));
        let content = Content::new(file, 0..block.start, end.central_directory.clone(), record);
        Self { content, block: block.clone(), made: BTreeMap::new() }
    }

    /// Compares what the signers of a scheme say with what the content is, for every digest that some Android looks at.
    fn compare(&mut self, scheme: Scheme, held: &[Held<'_>]) -> Result<(), SignatureError> {
        let looked_at: BTreeSet<_> = held.iter().flat_map(|held| held.digests.iter().copied()).collect();
        let page = PAGE_LEN as u64;
        if looked_at.contains(&ContentDigest::VeritySha256)
            && !(self.block.start.is_multiple_of(page) && (self.block.end - self.block.start).is_multiple_of(page))
        {
            let what = "it is for fs-verity, and the signing block does not lie on pages of 4096 bytes";
            return Err(SignatureError::Invalid { scheme, what });
        }
        for (id, signed) in held.iter().flat_map(|held| &held.signer.digests) {
            let Some(how) = Algorithm::of(*id).map(|algorithm| algorithm.digest) else { continue };
            if looked_at.contains(&how) && self.of(how)? != *signed {
                return Err(SignatureError::Tampered { scheme });
            }
        }
        Ok(())
    }

    fn of(&mut self, how: ContentDigest) -> io::Result<&[u8]> {
        if !self.made.contains_key(&how) {
            self.made.insert(how, self.content.digest(how)?);
        }
        Ok(self.made.get(&how).map_or(&[], Vec::as_slice))
    }
}
