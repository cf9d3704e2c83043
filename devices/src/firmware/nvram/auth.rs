//! Authenticated writes (UEFI 2.10, 8.2.2): who has to have signed what, and whether it is so.
//!
//! | variable | signed by |
//! |---|---|
//! | PK, KEK | the platform key |
//! | db, dbx and what else is in their vendor's name, OsRecovery | a key exchange key, or the platform key |
//! | any other | whoever signed its first write: the very same certificate |
//!
//! In setup mode, without a platform key, the first two kinds need no signature, yet the same structure. Signers are
//! certificates in the lists themselves, or issued by one of them, perhaps through certificates that the signature
//! brings.

use zerocopy::FromBytes;

use super::pkcs7::{Certificate, SignedData};
use super::protocol::{
    Attributes, Authentication, CERTIFICATE_HEADER, CERTIFICATE_REVISION, CERTIFICATE_TYPE, PKCS7, vendor,
};
use super::services::unsigned;
use super::signatures;
use super::store::Store;
use super::variable::{DATA_MAX, Variable, VariableId, order, signed_message};
use crate::firmware::protocol::{EfiStatus, EfiTime};

/// A write that may go on.
#[derive(Debug)]
pub(super) struct Approved<'a> {
    /// The variable's data, without what authenticated them.
    pub data: &'a [u8],
    pub time: EfiTime,
    pub owner: [u8; 32],
}

/// Who may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authority {
    PlatformKey,
    KeyExchangeKey,
    /// The variable's own.
    Owner,
}

fn authority(id: &VariableId) -> Authority {
    let global = id.vendor == vendor::GLOBAL;
    if id.is(vendor::GLOBAL, "PK") || id.is(vendor::GLOBAL, "KEK") {
        Authority::PlatformKey
    } else if id.vendor == vendor::IMAGE_SECURITY || global && id.name.starts_with("OsRecovery") {
        Authority::KeyExchangeKey
    } else {
        Authority::Owner
    }
}

/// Whether a variable decides what boots: its attributes are given.
pub(super) fn is_policy(id: &VariableId) -> bool {
    authority(id) != Authority::Owner
}

/// Whether a variable is a list of signatures by its name.
fn is_signature_list(id: &VariableId) -> bool {
    id.is(vendor::GLOBAL, "PK")
        || id.is(vendor::GLOBAL, "KEK")
        || ["db", "dbx", "dbt", "dbr"].iter().any(|name| id.is(vendor::IMAGE_SECURITY, name))
}

/// Looks at what authenticates a write, if it has to be authenticated.
pub(super) fn approve<'a>(
    store: &Store,
    setup_mode: bool,
    id: &VariableId,
    attributes: Attributes,
    data: &'a [u8],
) -> Result<Approved<'a>, EfiStatus> {
    let authority = authority(id);
    let deletes = !attributes.intersects(Attributes::ACCESS);
    if authority != Authority::Owner && !deletes && attributes - Attributes::APPEND != Attributes::POLICY {
        return Err(EfiStatus::InvalidParameter);
    }
    if !attributes.contains(Attributes::TIME_AUTHENTICATED) {
        return Ok(unsigned(data));
    }
    let signed = Signed::parse(data).ok_or(EfiStatus::SecurityViolation)?;
    let old = store.get(id);
    let newer = old.is_none_or(|old| order(&signed.time) > order(&old.time));
    if !newer && !attributes.contains(Attributes::APPEND) {
        return Err(EfiStatus::SecurityViolation);
    }
    check_data(id, attributes, signed.data)?;
    let message = signed_message(id, attributes, &signed.time, signed.data);
    let mut owner = [0; 32];
    if authority == Authority::Owner {
        owner = signed.owner(&message).ok_or(EfiStatus::SecurityViolation)?;
        if old.is_some_and(|old| old.owner != owner) {
            return Err(EfiStatus::SecurityViolation);
        }
    } else if !setup_mode {
        let mut keys = key_data(store, "PK");
        if authority == Authority::KeyExchangeKey {
            keys.extend(key_data(store, "KEK"));
        }
        if !signed.is_by(&keys, &message) {
            return Err(EfiStatus::SecurityViolation);
        }
    }
    Ok(Approved { data: signed.data, time: signed.time, owner })
}

/// Adds to a variable that is there: of signatures only those that it lacks.
pub(super) fn append(
    id: &VariableId,
    old: &Variable,
    data: &[u8],
    time: EfiTime,
) -> Result<Variable, EfiStatus> {
    let mut new = old.clone();
    if is_signature_list(id) {
        let fresh = signatures::parse(data).ok_or(EfiStatus::InvalidParameter)?;
        // What is there was checked when it came, unless it came from the host.
        new.data.extend(signatures::without(&fresh, &signatures::parse(&old.data).unwrap_or_default()));
    } else {
        new.data.extend(data);
    }
    if order(&time) > order(&old.time) {
        new.time = time;
    }
    if new.data.len() > DATA_MAX { Err(EfiStatus::OutOfResources) } else { Ok(new) }
}

/// Keys are well formed, and there is one platform key.
pub(super) fn check_data(id: &VariableId, attributes: Attributes, data: &[u8]) -> Result<(), EfiStatus> {
    if !is_signature_list(id) || data.is_empty() {
        return Ok(());
    }
    let lists = signatures::parse(data).ok_or(EfiStatus::InvalidParameter)?;
    let platform_key = id.is(vendor::GLOBAL, "PK");
    let append = attributes.contains(Attributes::APPEND);
    // A platform key that can sign nothing would lock its owner out.
    let usable = || {
        let certificates = signatures::certificates(&lists);
        signatures::is_one_certificate(&lists)
            && certificates.into_iter().all(|der| Certificate::parse(der).is_some())
    };
    if !signatures::are_known(&lists) || platform_key && (append || !usable()) {
        return Err(EfiStatus::InvalidParameter);
    }
    Ok(())
}

fn key_data(store: &Store, name: &str) -> Vec<u8> {
    let variable = VariableId::new(vendor::GLOBAL, name).and_then(|id| store.get(&id));
    variable.map_or_else(Vec::new, |variable| variable.data.clone())
}

/// A write's data, taken apart.
struct Signed<'a> {
    time: EfiTime,
    pkcs7: &'a [u8],
    data: &'a [u8],
}

impl<'a> Signed<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let (header, rest) = Authentication::read_from_prefix(payload).ok()?;
        let known = header.revision.get() == CERTIFICATE_REVISION
            && header.kind.get() == CERTIFICATE_TYPE
            && header.certificate == PKCS7;
        let EfiTime { reserved, nanosecond, timezone, daylight, reserved2, .. } = header.time;
        let plain = [reserved, daylight, reserved2] == [0; 3] && nanosecond.get() == 0 && timezone.get() == 0;
        let length = usize::try_from(header.length.get()).ok()?.checked_sub(CERTIFICATE_HEADER)?;
        let (pkcs7, data) = rest.split_at_checked(length)?;
        (known && plain).then_some(Signed { time: header.time, pkcs7, data })
    }

    /// Whether a key of these lists, or who has a certificate from one, has signed the message.
    fn is_by(&self, keys: &[u8], message: &[u8]) -> bool {
        let Some(signed) = SignedData::parse(self.pkcs7) else { return false };
        let Some(lists) = signatures::parse(keys) else { return false };
        let keys: Vec<Certificate<'_>> =
            signatures::certificates(&lists).into_iter().filter_map(Certificate::parse).collect();
        let trusted = |signer| is_trusted(signer, signed.certificates(), &keys);
        signed.signers().any(|signer| signed.is_by(signer, message) && trusted(signer))
            || keys.iter().any(|key| signed.is_by(key, message))
    }

    /// The certificate with which the message is signed, as its SHA-256.
    fn owner(&self, message: &[u8]) -> Option<[u8; 32]> {
        let signed = SignedData::parse(self.pkcs7)?;
        let signer = signed.signers().find(|signer| signed.is_by(signer, message))?;
        Some(signer.fingerprint())
    }
}

/// Whether a chain of certificates leads from a signer to a key: each is issued by the next, the key is the last, and
/// those between them are among `others`.
fn is_trusted(signer: &Certificate<'_>, others: &[Certificate<'_>], keys: &[Certificate<'_>]) -> bool {
    // What leads to the signer so far, nearest first, and how many are between the two.
    let mut reached = vec![(signer, 0)];
    let mut at = 0;
    while let Some(&(certificate, above)) = reached.get(at) {
        let issued_by = |issuer: &Certificate<'_>| certificate.is_issued_by(issuer, above);
        if keys.iter().any(|key| key.is_same(certificate) || issued_by(key)) {
            return true;
        }
        for other in others {
            let known = reached.iter().any(|(known, _)| known.is_same(other));
            if !known && issued_by(other) {
                reached.push((other, above + 1));
            }
        }
        at += 1;
    }
    false
}
