//! Chains of certificates, made with openssl, and what efitools has signed.

use super::*;

/// Issued by [`MID`], which [`KEK`] has issued.
const DEEP: Who = who!("deep");
/// Issued by [`SUB`], which [`MID`] has issued although it may not issue authorities.
const DEEPER: Who = who!("deeper");
/// Issued by [`DEEP`], which may not issue anything.
const FORGED: Who = who!("forged");
const MID: &[u8] = include_bytes!("fixtures/mid.crt");
const SUB: &[u8] = include_bytes!("fixtures/sub.crt");

#[test]
fn a_chain_of_certificates_leads_to_a_key() {
    let db = image("db");
    let write = |who: Who, certificates: &[&[u8]]| {
        let message = signed_message(&db, Attributes::POLICY, &time(1), &hash(1));
        owned().set(&db, AUTH, &payload(time(1), &pkcs7(who, &message, certificates), &hash(1)))
    };
    let refused = Err(EfiStatus::SecurityViolation);
    for certificates in [&[DEEP.0, MID][..], &[MID, DEEP.0], &[STRANGER.0, MID, LEAF.0, DEEP.0, KEK.0]] {
        assert_eq!(write(DEEP, certificates), Ok(()));
    }
    assert_eq!(write(DEEP, &[DEEP.0]), refused, "its issuer is not there");
    assert_eq!(write(DEEP, &[DEEP.0, SUB, STRANGER.0]), refused);
    assert_eq!(write(DEEPER, &[DEEPER.0, SUB, MID]), refused, "the chain is longer than an issuer allows");
    assert_eq!(write(FORGED, &[FORGED.0, DEEP.0, MID]), refused, "who may sign may not therefore issue");
    assert_eq!(write(STRANGER, &[STRANGER.0, MID, KEK.0]), refused);
    // The certificate in the middle is a key as good as the root.
    let mut variables = variables();
    variables.set(&global("KEK"), AUTH, &unsigned(0, &list(X509, &[MID]))).unwrap();
    variables.set(&global("PK"), AUTH, &unsigned(0, &list(X509, &[PK.0]))).unwrap();
    variables.set(&db, AUTH, &signed(DEEP, &db, AUTH, 1, &hash(1))).unwrap();
    assert_eq!(variables.set(&db, AUTH, &signed(LEAF, &db, AUTH, 2, &hash(2))), refused);
}

#[test]
fn what_efitools_has_signed_is_good() {
    let (pk, kek, db) = (global("PK"), global("KEK"), image("db"));
    let mut variables = variables();
    // In the order in which people are told to do it, and in setup mode PK comes last.
    variables.set(&db, AUTH, include_bytes!("fixtures/efitools-db.auth")).unwrap();
    variables.set(&kek, AUTH, include_bytes!("fixtures/efitools-kek.auth")).unwrap();
    variables.set(&pk, AUTH, include_bytes!("fixtures/efitools-pk.auth")).unwrap();
    assert_eq!(shown(&variables, "SetupMode"), 0);
    assert_eq!(variables.get(&db).unwrap().data, list(X509, &[LEAF.0]));
    let append = include_bytes!("fixtures/efitools-db-append.auth");
    assert_eq!(
        variables.set(&db, AUTH, append),
        Err(EfiStatus::SecurityViolation),
        "it is signed as an append"
    );
    variables.set(&db, AUTH | APPEND, append).unwrap();
    assert_eq!(variables.get(&db).unwrap().data, [list(X509, &[LEAF.0]), list(X509, &[KEK.0])].concat());
    variables.set(&pk, AUTH, include_bytes!("fixtures/efitools-pk-delete.auth")).unwrap();
    assert_eq!(shown(&variables, "SetupMode"), 1);
    // The same while somebody owns the machine: signatures count.
    let mut variables = owned();
    variables.set(&db, AUTH, include_bytes!("fixtures/efitools-db.auth")).unwrap();
    variables.set(&kek, AUTH, include_bytes!("fixtures/efitools-kek.auth")).unwrap();
    let mut changed = *include_bytes!("fixtures/efitools-pk.auth");
    *changed.last_mut().unwrap() ^= 1;
    assert!(variables.set(&pk, AUTH, &changed).is_err());
}
