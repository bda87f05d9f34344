//! The APKs on which farmhand and Google's `apksigner` must agree: each way to sign, each defect, one byte flipped at many places.

use crate::forge::{
    Forge, PADDING, PROOF_OF_ROTATION, ROTATION_MIN_SDK, SDK_MAX, STRIPPING_PROTECTION, V2, V3, V31, block_of,
    content_digest, folder, lineage, lineage_with_flags, pairs_of, read, scheme, taken_pairs, with_pairs,
};

/// An APK, and what was done to it.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Content for what is forged.
const CONTENT: &str = "schemes/v1-v2-v3";

pub(crate) fn corpus() -> Vec<Sample> {
    let mut samples = checked_in();
    samples.extend(stripped());
    samples.extend(cut_and_joined());
    samples.extend(forged());
    samples.extend(rotations());
    samples.extend(flipped());
    samples
}

/// Rotated as it should be, but for the digest that the new key has signed.
pub(crate) fn wrong_digest_in_v3_1() -> Vec<u8> {
    let apk = read(CONTENT);
    let old = Forge::new(&apk, Some((24, 32))).attribute(ROTATION_MIN_SDK, &33_u32.to_le_bytes());
    let new = Forge::new(&apk, Some((33, SDK_MAX))).by_key("b").attribute(PROOF_OF_ROTATION, &lineage(&["a", "b"]));
    let new = Forge { digests: vec![(0x0103, vec![7; 32])], ..new };
    let pairs = [(V2, Forge::new(&apk, None)), (V3, old), (V31, new)];
    with_pairs(&apk, &pairs.map(|(id, forge)| (id, scheme(&[forge]))))
}

fn sample(name: impl Into<String>, bytes: Vec<u8>) -> Sample {
    Sample { name: name.into(), bytes }
}

/// All that Google's signer made, and the unsigned and the truncated one.
fn checked_in() -> Vec<Sample> {
    let mut names = Vec::new();
    for below in ["", "schemes/"] {
        for entry in std::fs::read_dir(folder().join(below)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            names.extend(file.strip_suffix(".apk").map(|name| format!("{below}{name}")));
        }
    }
    names.sort();
    names.iter().map(|name| sample(name, read(name))).collect()
}

/// Each scheme taken away from APKs that have several, its pair turned into padding as a thief would.
fn stripped() -> Vec<Sample> {
    let mut samples = Vec::new();
    for name in ["schemes/v1-v2-v3", "schemes/rotated", "schemes/rotated-at-28", "schemes/min28", "schemes/v2"] {
        let apk = read(name);
        for (id, value) in pairs_of(&apk).into_iter().filter(|(id, _)| *id != PADDING) {
            let mut bytes = apk.clone();
            bytes[value.start - 4..value.start].copy_from_slice(&PADDING.to_le_bytes());
            samples.push(sample(format!("{name} without {id:#x}"), bytes));
        }
    }
    samples
}

fn cut_and_joined() -> Vec<Sample> {
    let good = read("schemes/v1-v2-v3");
    let block = block_of(&good);
    let pairs = taken_pairs(&good);
    let replaced = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let comment = {
        let mut bytes = [good.as_slice(), b"hello"].concat();
        let length_at = good.len() - 2;
        bytes[length_at] = 5;
        bytes
    };
    let swapped: Vec<_> = pairs.iter().rev().cloned().collect();
    let doubled: Vec<_> = pairs.iter().chain(&pairs).cloned().collect();
    let broken_first = [vec![(V2, vec![0; 8])], pairs.clone()].concat();
    let longer: Vec<_> = pairs.iter().map(|(id, value)| (*id, [value.as_slice(), &[0; 4]].concat())).collect();
    let padding_at = pairs_of(&good).last().unwrap().1.start - 12;
    vec![
        sample("empty", Vec::new()),
        sample("text", b"This is no APK.".to_vec()),
        sample("cut by a byte", good[..good.len() - 1].to_vec()),
        sample("cut in its directory", good[..block.end + 10].to_vec()),
        sample("cut in its block", good[..block.end - 100].to_vec()),
        sample("a byte longer", [good.as_slice(), b"x"].concat()),
        sample("a comment added", comment),
        sample("without the block", {
            let mut bytes = [&good[..block.start], &good[block.end..]].concat();
            let at = bytes.len() - 6;
            bytes[at..at + 4].copy_from_slice(&u32::try_from(block.start).unwrap().to_le_bytes());
            bytes
        }),
        sample("two sizes of the block", replaced(block.start, &[1])),
        sample("a huge block", replaced(block.end - 24, &u64::MAX.to_le_bytes())),
        sample("no magic", replaced(block.end - 1, b"3")),
        sample("pairs in another order", with_pairs(&good, &swapped)),
        sample("every pair twice", with_pairs(&good, &doubled)),
        sample("a broken pair before the good one", with_pairs(&good, &broken_first)),
        sample("bytes after the signers", with_pairs(&good, &longer)),
        sample("padding that runs over the end", replaced(padding_at, &u64::MAX.to_le_bytes())),
        sample("no pairs", with_pairs(&good, &[])),
        sample("the schemes of another APK", with_pairs(&good, &taken_pairs(&read("schemes/min28")))),
    ]
}

/// Truly signed by a test key, and wrong in one way.
fn forged() -> Vec<Sample> {
    let apk = read(CONTENT);
    let v2 = |forge: Forge| with_pairs(&apk, &[(V2, scheme(&[forge]))]);
    let v3 = |forge: Forge| with_pairs(&apk, &[(V3, scheme(&[forge]))]);
    let all = Some((24, SDK_MAX));
    let good = Forge::new(&apk, all);
    let mut samples = Vec::new();
    for id in [0x0101, 0x0102, 0x0103, 0x0104, 0x0201, 0x0301, 0x0421, 0x0999] {
        samples.push(sample(format!("v2 by {id:#x}"), v2(Forge::by(&apk, &[id], None))));
        samples.push(sample(format!("v3 by {id:#x}"), v3(Forge::by(&apk, &[id], all))));
    }
    samples.extend([
        sample("v3 by two algorithms", v3(Forge::by(&apk, &[0x0103, 0x0104], all))),
        sample("v3 by a known and an unknown algorithm", v3(Forge::by(&apk, &[0x0999, 0x0103], all))),
        sample("v3 by no algorithm", v3(Forge::by(&apk, &[], all))),
        sample("another digest", v3(Forge { digests: vec![(0x0103, vec![7; 32])], ..good.clone() })),
        sample("a digest of another length", v3(Forge { digests: vec![(0x0103, vec![7; 31])], ..good.clone() })),
        sample("a weak digest that is wrong, a strong one that is right", {
            let digests = vec![(0x0103, vec![7; 32]), (0x0104, content_digest(&apk, 0x0104))];
            v3(Forge { digests, ..Forge::by(&apk, &[0x0103, 0x0104], all) })
        }),
        sample("digests in another order", {
            let mut digests = Forge::by(&apk, &[0x0103, 0x0104], all).digests;
            digests.reverse();
            v3(Forge { digests, ..Forge::by(&apk, &[0x0103, 0x0104], all) })
        }),
        sample("a borrowed certificate", v3(Forge { certificate: "b", ..good.clone() })),
        sample("a borrowed certificate of another kind", v3(Forge { certificate: "ec256", ..good.clone() })),
        sample("only for old Android", v3(Forge::new(&apk, Some((24, 32))))),
        sample("only for new Android", v3(Forge::new(&apk, Some((30, SDK_MAX))))),
        sample("for no Android", v3(Forge::new(&apk, Some((33, 28))))),
        sample("for more Android than there can be", v3(Forge::new(&apk, Some((24, u32::MAX))))),
        sample("two ranges of Android", v3(Forge { outer_sdks: Some((28, SDK_MAX)), ..good.clone() })),
        sample("an unknown attribute", v3(good.clone().attribute(0x1234, b"x"))),
        sample("a short attribute", v3(good.clone().attribute(ROTATION_MIN_SDK, b"x"))),
        sample("v2 says v3", v2(Forge::new(&apk, None).attribute(STRIPPING_PROTECTION, &3_u32.to_le_bytes()))),
        sample("v2 says v4", v2(Forge::new(&apk, None).attribute(STRIPPING_PROTECTION, &4_u32.to_le_bytes()))),
        sample("v2 with 10 signers", with_pairs(&apk, &[(V2, scheme(&vec![Forge::new(&apk, None); 10]))])),
        sample("v2 with 11 signers", with_pairs(&apk, &[(V2, scheme(&vec![Forge::new(&apk, None); 11]))])),
        sample("no signer", with_pairs(&apk, &[(V3, scheme(&[]))])),
        sample("an unknown scheme", with_pairs(&apk, &[(0x1234, scheme(&[good]))])),
    ]);
    samples
}

fn rotations() -> Vec<Sample> {
    let apk = read(CONTENT);
    let build = |name: &str, v2: &Forge, v3: &[Forge], v31: &[Forge]| {
        let mut pairs = vec![(V2, scheme(std::slice::from_ref(v2)))];
        pairs.extend((!v3.is_empty()).then(|| (V3, scheme(v3))));
        pairs.extend((!v31.is_empty()).then(|| (V31, scheme(v31))));
        sample(name, with_pairs(&apk, &pairs))
    };
    let at = |min, max| Forge::new(&apk, Some((min, max)));
    let names_33 = |forge: Forge| forge.attribute(ROTATION_MIN_SDK, &33_u32.to_le_bytes());
    let v2 = Forge::new(&apk, None);
    let old = [names_33(at(24, 32))];
    let proof = lineage(&["a", "b"]);
    let new = |min| at(min, SDK_MAX).by_key("b").attribute(PROOF_OF_ROTATION, &proof);
    let proven = |proof: &[u8]| at(24, SDK_MAX).by_key("b").attribute(PROOF_OF_ROTATION, proof);
    let by_a = |min, max, flags| at(min, max).attribute(PROOF_OF_ROTATION, &lineage_with_flags(&["a"], flags));
    let early = at(24, 30).by_key("b").attribute(PROOF_OF_ROTATION, &proof);
    let wrong_signature = [&proof[..proof.len() - 1], &[proof[proof.len() - 1] ^ 1]].concat();
    let version_2 = [&2_u32.to_le_bytes(), &proof[4..]].concat();
    vec![
        build("rotated", &v2, &old, &[new(33)]),
        build("rotated, v3.1 alone", &v2, &[], &[new(33)]),
        build("rotated, v3.1 gone", &v2, &old, &[]),
        build("rotated later than v3 says", &v2, &old, &[new(34)]),
        build("rotated, and v3 does not say so", &v2, &[at(24, 32)], &[new(33)]),
        build("rotated, v3 for all", &v2, &[names_33(at(24, SDK_MAX))], &[new(33)]),
        build("rotated, a hole between", &v2, &[names_33(at(24, 31))], &[new(33)]),
        build("rotated without a proof", &v2, &old, &[at(33, SDK_MAX).by_key("b")]),
        build("v3.1 that names itself", &v2, &old, &[names_33(new(33))]),
        build("v3 with a proof", &v2, &[proven(&proof)], &[]),
        build("v3 with a proof, v2 by the new key", &v2.clone().by_key("b"), &[proven(&proof)], &[]),
        build("v3 with another signer than v2", &v2, &[at(24, SDK_MAX).by_key("b")], &[]),
        build("a proof by a wrong signature", &v2, &[proven(&wrong_signature)], &[]),
        build("a proof that ends elsewhere", &v2, &[proven(&lineage(&["a", "b", "rsa4096"]))], &[]),
        build("a proof that does not begin with v2", &v2, &[proven(&lineage(&["b"]))], &[]),
        build("a proof that comes back", &v2, &[proven(&lineage(&["b", "a", "b"]))], &[]),
        build("an empty proof", &v2, &[proven(&1_u32.to_le_bytes())], &[]),
        build("a proof of version 2", &v2, &[proven(&version_2)], &[]),
        build("two signers, one after the other", &v2, &[by_a(24, 30, 23), new(31)], &[]),
        build("two signers with a hole", &v2, &[by_a(24, 29, 23), new(31)], &[]),
        build("two signers that do not grant the same", &v2, &[by_a(24, 30, 1), new(31)], &[]),
        build("two signers, the later with a shorter past", &v2, &[early, by_a(31, SDK_MAX, 23)], &[]),
        build("two signers without a proof", &v2, &[at(24, 30), at(31, SDK_MAX)], &[]),
    ]
}

/// One bit of one byte, at places all over; the signing block, which is all structure, more densely.
fn flipped() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (name, places) in
        [("schemes/v1-v2-v3", 28), ("schemes/rotated", 20), ("schemes/verity-ec256", 12), ("schemes/dsa2048", 12)]
    {
        let apk = read(name);
        let pairs = pairs_of(&apk);
        let structure = pairs.first().unwrap().1.start - 12..pairs.last().unwrap().1.start;
        let content: Vec<_> = (0..apk.len()).filter(|at| !structure.contains(at)).collect();
        let sparse = content.iter().copied().step_by(content.len() / (places / 4));
        let dense = structure.clone().step_by(structure.len() / (places * 3 / 4));
        for at in sparse.chain(dense) {
            let mut bytes = apk.clone();
            bytes[at] ^= 0x20;
            samples.push(sample(format!("{name} with byte {at} flipped"), bytes));
        }
    }
    samples
}
