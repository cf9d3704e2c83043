//! Lists of signatures, the contents of PK, KEK, db and dbx (UEFI 2.10, 32.4.1).

use std::collections::BTreeSet;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{SIGNATURE_KINDS, SignatureList, X509};
use crate::guid::Guid;

/// Bytes of the owner's GUID before each signature.
const OWNER: usize = 16;

/// One list.
#[derive(Debug)]
pub(super) struct List<'a> {
    wire: SignatureList,
    header: &'a [u8],
    signatures: Vec<&'a [u8]>,
}

/// Takes a variable's data apart; `None` if they are anything else than lists.
pub(super) fn parse(mut data: &[u8]) -> Option<Vec<List<'_>>> {
    let mut lists = Vec::new();
    while !data.is_empty() {
        let (wire, _) = SignatureList::read_from_prefix(data).ok()?;
        let (list, rest) = data.split_at_checked(usize::try_from(wire.list_bytes.get()).ok()?)?;
        let body = list.get(size_of::<SignatureList>()..)?;
        let (header, body) = body.split_at_checked(usize::try_from(wire.header_bytes.get()).ok()?)?;
        let size = usize::try_from(wire.signature_bytes.get()).ok()?;
        if size <= OWNER || body.len() % size != 0 {
            return None;
        }
        lists.push(List { wire, header, signatures: body.chunks_exact(size).collect() });
        data = rest;
    }
    Some(lists)
}

/// The X.509 certificates (DER) in them.
pub(super) fn certificates<'a>(lists: &[List<'a>]) -> Vec<&'a [u8]> {
    let certificates = lists.iter().filter(|list| list.wire.kind == X509);
    certificates.flat_map(|list| &list.signatures).filter_map(|signature| signature.get(OWNER..)).collect()
}

/// Whether all are of a kind that firmware knows, and of its size.
pub(super) fn are_known(lists: &[List<'_>]) -> bool {
    lists.iter().all(|List { wire, header, signatures }| {
        let known = SIGNATURE_KINDS.iter().find(|(kind, _)| *kind == wire.kind);
        let fits = |bytes: Option<usize>| {
            bytes.is_none_or(|bytes| signatures.iter().all(|signature| signature.len() == OWNER + bytes))
        };
        header.is_empty() && known.is_some_and(|(_, bytes)| fits(*bytes))
    })
}

/// Whether they are what a platform key may be: one certificate.
pub(super) fn is_one_certificate(lists: &[List<'_>]) -> bool {
    matches!(lists, [List { wire, signatures, .. }] if wire.kind == X509 && signatures.len() == 1)
}

/// The lists of `new` without what `old` has already.
pub(super) fn without(new: &[List<'_>], old: &[List<'_>]) -> Vec<u8> {
    let key = |list: &List<'_>| -> Guid { list.wire.kind };
    let known: BTreeSet<(Guid, &[u8])> =
        old.iter().flat_map(|list| list.signatures.iter().map(|&signature| (key(list), signature))).collect();
    let mut data = Vec::new();
    for list in new {
        let fresh: Vec<&[u8]> = list
            .signatures
            .iter()
            .copied()
            .filter(|&signature| !known.contains(&(key(list), signature)))
            .collect();
        if fresh.is_empty() {
            continue;
        }
        let fresh = fresh.concat();
        let bytes = size_of::<SignatureList>() + list.header.len() + fresh.len();
        // No more than the list had, which its own field told.
        let wire = SignatureList { list_bytes: U32::new(u32::try_from(bytes).unwrap_or(0)), ..list.wire };
        data.extend(wire.as_bytes());
        data.extend(list.header);
        data.extend(fresh);
    }
    data
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::firmware::nvram::protocol::SHA256;

    /// A list of signatures of one size.
    pub(in crate::firmware::nvram) fn list(kind: Guid, signatures: &[&[u8]]) -> Vec<u8> {
        let size = signatures.first().map_or(1, |signature| signature.len()) + OWNER;
        let wire = SignatureList {
            kind,
            list_bytes: U32::new((size_of::<SignatureList>() + size * signatures.len()) as u32),
            header_bytes: U32::new(0),
            signature_bytes: U32::new(size as u32),
        };
        let mut data = wire.as_bytes().to_vec();
        for signature in signatures {
            data.extend([0x77; OWNER]);
            data.extend(*signature);
        }
        data
    }

    #[test]
    fn an_append_brings_only_what_is_new() {
        let old = list(SHA256, &[&[1; 32], &[2; 32]]);
        let new = [list(SHA256, &[&[2; 32], &[3; 32], &[1; 32]]), list(X509, &[&[1; 32]])].concat();
        let fresh = without(&parse(&new).unwrap(), &parse(&old).unwrap());
        assert_eq!(fresh, [list(SHA256, &[&[3; 32]]), list(X509, &[&[1; 32]])].concat());
        assert_eq!(without(&parse(&old).unwrap(), &parse(&old).unwrap()), []);
    }

    #[test]
    fn kinds_of_signatures_have_their_size() {
        for (kind, bytes) in SIGNATURE_KINDS {
            let size = bytes.unwrap_or(77);
            let data = list(kind, &[&vec![1; size], &vec![2; size]]);
            assert!(are_known(&parse(&data).unwrap()), "{kind}");
            let data = list(kind, &[&vec![1; size + 1]]);
            assert_eq!(are_known(&parse(&data).unwrap()), bytes.is_none(), "{kind}");
        }
        assert!(!are_known(&parse(&list(Guid::from_bytes([1; 16]), &[&[1; 32]])).unwrap()));
        assert!(are_known(&[]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let good = list(SHA256, &[&[1; 32], &[2; 32]]);
        assert_eq!(parse(&good).unwrap().len(), 1);
        assert!(parse(&[]).unwrap().is_empty());
        for end in 1..good.len() {
            assert!(parse(&good[..end]).is_none(), "{end}");
        }
        for (at, value) in [(16, 27), (16, 77), (20, 1), (20, 0xff), (24, 0), (24, 16), (24, 49)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(parse(&bad).is_none(), "{value} at {at}");
        }
    }
}
