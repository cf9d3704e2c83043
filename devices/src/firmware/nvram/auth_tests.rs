//! Authenticated writes: signatures made here with `ring`, and two by openssl.

use super::pkcs7::{Certificate, SignedData};
use super::protocol::{
    Attributes, Authentication, CERTIFICATE_HEADER, CERTIFICATE_REVISION, CERTIFICATE_TYPE, PKCS7, SHA256,
    X509, vendor,
};
use super::services::{Nowhere, Variables};
use super::signatures::tests::list;
use super::store::Store;
use super::variable::{VariableId, signed_message};
use crate::firmware::protocol::{EfiStatus, EfiTime};
use crate::guid::Guid;
use der::asn1::AnyRef;
use der::{Decode, Encode};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

/// Certificate and key of somebody.
#[derive(Clone, Copy)]
struct Who(&'static [u8], &'static [u8]);

macro_rules! who {
    ($name:literal) => {
        Who(
            include_bytes!(concat!("fixtures/", $name, ".crt")),
            include_bytes!(concat!("fixtures/", $name, ".key")),
        )
    };
}

const PK: Who = who!("pk");
const KEK: Who = who!("kek");
const LEAF: Who = who!("leaf");
const STRANGER: Who = who!("stranger");
/// By openssl: db, attributes 0x27, 2026-01-02 03:04:05, one list with one SHA-256 of ones.
const FOREIGN: &[u8] = include_bytes!("fixtures/leaf.p7");
/// The same with signed attributes.
const FOREIGN_ATTRIBUTES: &[u8] = include_bytes!("fixtures/attributes.p7");

const AUTH: u32 = 0x27;
const APPEND: u32 = 0x40;

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut out = vec![tag, 0x82];
    if contents.len() < 0x80 {
        out.pop();
        out.push(contents.len() as u8);
    } else if contents.len() < 0x100 {
        out = vec![tag, 0x81, contents.len() as u8];
    } else {
        out.extend((contents.len() as u16).to_be_bytes());
    }
    out.extend(contents);
    out
}

const VERSION: &[u8] = &[2, 1, 1];
const SHA256_ID: &[u8] = &[0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
const RSA_ID: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const DATA_ID: &[u8] = &[0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];

/// Issuer and serial number of a certificate.
fn name_of(certificate: &[u8]) -> Vec<u8> {
    let fields = |any: AnyRef<'static>| -> Vec<AnyRef<'static>> {
        let mut rest: &'static [u8] = Box::leak(any.value().to_vec().into_boxed_slice());
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let (field, after) = AnyRef::from_der_partial(rest).unwrap();
            fields.push(field);
            rest = after;
        }
        fields
    };
    let whole: &'static [u8] = Box::leak(certificate.to_vec().into_boxed_slice());
    let body = fields(AnyRef::from_der(whole).unwrap())[0];
    let body = fields(body);
    let first = usize::from(body[0].to_der().unwrap()[0] == 0xa0);
    tlv(0x30, &[&body[first + 2].to_der().unwrap(), &body[first].to_der().unwrap()])
}

/// `SignedData` of a message.
fn pkcs7(who: Who, message: &[u8], certificates: &[&[u8]]) -> Vec<u8> {
    let key = RsaKeyPair::from_pkcs8(who.1).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    let signer = tlv(0x30, &[VERSION, &name_of(who.0), SHA256_ID, RSA_ID, &tlv(4, &[&signature])]);
    tlv(0x30, &[VERSION, &tlv(0x31, &[SHA256_ID]), DATA_ID, &tlv(0xa0, certificates), &tlv(0x31, &[&signer])])
}

fn time(second: u8) -> EfiTime {
    let mut time = EfiTime::new_zeroed();
    time.year = U16::new(2026);
    (time.month, time.day, time.hour, time.minute, time.second) = (1, 2, 3, 4, second);
    time
}

/// What authenticates data, before them.
fn payload(time: EfiTime, pkcs7: &[u8], data: &[u8]) -> Vec<u8> {
    let header = Authentication {
        time,
        length: U32::new((CERTIFICATE_HEADER + pkcs7.len()) as u32),
        revision: U16::new(CERTIFICATE_REVISION),
        kind: U16::new(CERTIFICATE_TYPE),
        certificate: PKCS7,
    };
    [header.as_bytes(), pkcs7, data].concat()
}

fn signed(who: Who, id: &VariableId, attributes: u32, second: u8, data: &[u8]) -> Vec<u8> {
    let message = signed_message(id, Attributes::from_bits_retain(attributes), &time(second), data);
    payload(time(second), &pkcs7(who, &message, &[who.0]), data)
}

fn unsigned(second: u8, data: &[u8]) -> Vec<u8> {
    payload(time(second), &[], data)
}

fn global(name: &str) -> VariableId {
    VariableId::new(vendor::GLOBAL, name).unwrap()
}

fn image(name: &str) -> VariableId {
    VariableId::new(vendor::IMAGE_SECURITY, name).unwrap()
}

fn hash(byte: u8) -> Vec<u8> {
    list(SHA256, &[&[byte; 32]])
}

fn variables() -> Variables {
    Variables::new(Store::new(Guid::ZERO), Box::new(Nowhere))
}

/// A machine with keys; db and dbx are empty.
fn owned() -> Variables {
    let mut variables = variables();
    variables.set(&global("KEK"), AUTH, &unsigned(0, &list(X509, &[KEK.0]))).unwrap();
    variables.set(&global("PK"), AUTH, &unsigned(0, &list(X509, &[PK.0]))).unwrap();
    variables
}

fn shown(variables: &Variables, name: &str) -> u8 {
    variables.get(&global(name)).unwrap().data[0]
}

#[test]
fn setup_mode_ends_with_the_platform_key_and_comes_back_without_it() {
    let mut variables = variables();
    assert_eq!(shown(&variables, "SetupMode"), 1);
    variables.set(&image("db"), AUTH, &unsigned(0, &hash(1))).unwrap();
    variables.set(&global("PK"), AUTH, &unsigned(0, &list(X509, &[PK.0]))).unwrap();
    assert_eq!((shown(&variables, "SetupMode"), shown(&variables, "SecureBoot")), (0, 0));
    variables.power_on();
    assert_eq!((shown(&variables, "SetupMode"), shown(&variables, "SecureBoot")), (0, 1));
    assert_eq!(variables.get(&global("dbDefault")).unwrap().data, hash(1));
    let refused = variables.set(&image("db"), AUTH, &unsigned(1, &hash(2)));
    assert_eq!(refused, Err(EfiStatus::SecurityViolation));
    assert_eq!(variables.set(&global("PK"), AUTH, &unsigned(1, b"")), Err(EfiStatus::SecurityViolation));
    variables.set(&global("PK"), AUTH, &signed(PK, &global("PK"), AUTH, 1, b"")).unwrap();
    assert_eq!(shown(&variables, "SetupMode"), 1);
    variables.set(&image("db"), AUTH, &unsigned(1, &hash(2))).unwrap();
}

#[test]
fn each_list_has_its_signers() {
    let (pk, kek, db) = (global("PK"), global("KEK"), image("db"));
    let keys = list(X509, &[STRANGER.0]);
    for (id, who, allowed) in [
        (&pk, PK, true),
        (&pk, KEK, false),
        (&kek, PK, true),
        (&kek, KEK, false),
        (&kek, LEAF, false),
        (&db, PK, true),
        (&db, KEK, true),
        (&db, LEAF, true),
        (&db, STRANGER, false),
        (&global("OsRecoveryOrder"), KEK, true),
        (&global("OsRecoveryOrder"), STRANGER, false),
    ] {
        let mut variables = owned();
        let outcome = variables.set(id, AUTH, &signed(who, id, AUTH, 1, &keys));
        let wanted = if allowed { Ok(()) } else { Err(EfiStatus::SecurityViolation) };
        assert_eq!(outcome, wanted, "{id} by {}", String::from_utf8_lossy(&who.0[40..90]));
        assert_eq!(variables.get(id).is_ok_and(|variable| variable.data == keys), allowed);
    }
}

#[test]
fn a_signature_holds_for_exactly_what_was_signed() {
    let db = image("db");
    let good = signed(KEK, &db, AUTH, 1, &hash(1));
    owned().set(&db, AUTH, &good).unwrap();
    assert_eq!(owned().set(&image("dbx"), AUTH, &good), Err(EfiStatus::SecurityViolation));
    assert_eq!(owned().set(&db, AUTH | APPEND, &good), Err(EfiStatus::SecurityViolation));
    // Every part that counts; some bytes of certificates and of encodings say nothing.
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(owned().set(&db, AUTH, &changed), Err(EfiStatus::SecurityViolation));
    for at in 0..40 {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(owned().set(&db, AUTH, &changed).is_err(), "byte {at}");
    }
    for end in 0..good.len() {
        assert!(owned().set(&db, AUTH, &good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn no_flipped_bit_makes_a_strangers_signature_good() {
    let db = image("db");
    let bad = signed(STRANGER, &db, AUTH, 1, &hash(1));
    let mut variables = owned();
    for at in 0..bad.len() {
        let mut changed = bad.clone();
        changed[at] ^= 0x5a;
        assert!(variables.set(&db, AUTH, &changed).is_err(), "byte {at}");
    }
}

#[test]
fn an_old_time_is_refused_but_for_appends() {
    let (mut variables, db) = (owned(), image("db"));
    variables.set(&db, AUTH, &signed(KEK, &db, AUTH, 5, &hash(1))).unwrap();
    for second in [4, 5] {
        let refused = variables.set(&db, AUTH, &signed(KEK, &db, AUTH, second, &hash(2)));
        assert_eq!(refused, Err(EfiStatus::SecurityViolation));
    }
    let more = [hash(1), hash(3)].concat();
    variables.set(&db, AUTH | APPEND, &signed(KEK, &db, AUTH | APPEND, 4, &more)).unwrap();
    let variable = variables.get(&db).unwrap();
    assert_eq!(variable.data, [hash(1), hash(3)].concat(), "what was there is there once");
    assert_eq!(variable.time, time(5));
    variables.set(&db, AUTH | APPEND, &signed(KEK, &db, AUTH | APPEND, 7, &hash(1))).unwrap();
    let variable = variables.get(&db).unwrap();
    assert_eq!((variable.data.len(), variable.time), (more.len(), time(7)));
    variables.set(&db, AUTH, &signed(KEK, &db, AUTH, 8, b"")).unwrap();
    assert_eq!(variables.get(&db), Err(EfiStatus::NotFound));
}

#[test]
fn keys_have_their_attributes_and_their_form() {
    let mut variables = variables();
    for attributes in [7, 3, 0x23, 0x22] {
        let refused = variables.set(&global("PK"), attributes, &unsigned(0, &list(X509, &[PK.0])));
        assert_eq!(refused, Err(EfiStatus::InvalidParameter), "{attributes:#x}");
    }
    for data in [list(X509, &[PK.0, PK.0]), [list(X509, &[PK.0]), hash(1)].concat(), hash(1), vec![1; 40]] {
        let refused = variables.set(&global("PK"), AUTH, &unsigned(0, &data));
        assert_eq!(refused, Err(EfiStatus::InvalidParameter));
    }
    assert_eq!(variables.set(&image("dbx"), AUTH, &unsigned(0, b"junk")), Err(EfiStatus::InvalidParameter));
    assert_eq!(shown(&variables, "SetupMode"), 1);
}

#[test]
fn an_authenticated_variable_cannot_be_had_without_its_signature() {
    let mut variables = owned();
    for attributes in [0, 7, 3] {
        assert_eq!(variables.set(&global("PK"), attributes, b""), Err(EfiStatus::InvalidParameter));
    }
    assert_eq!(variables.set(&global("PK"), 0, b"x"), Err(EfiStatus::InvalidParameter));
    let private = VariableId::new(Guid::ZERO, "Private").unwrap();
    variables.set(&private, AUTH, &signed(STRANGER, &private, AUTH, 1, b"mine")).unwrap();
    for (attributes, data) in [(0, &b""[..]), (7, b"theirs"), (7, b""), (0x20, b"")] {
        assert!(variables.set(&private, attributes, data).is_err(), "{attributes:#x}");
    }
    assert_eq!(variables.get(&private).unwrap().data, b"mine");
}

#[test]
fn an_append_without_access_makes_no_key_out_of_nothing() {
    let (mut variables, dbx) = (owned(), image("dbx"));
    for attributes in [APPEND, APPEND | 1] {
        assert_eq!(variables.set(&dbx, attributes, &hash(1)), Err(EfiStatus::NotFound), "{attributes:#x}");
    }
    let attributes = APPEND | 0x21;
    let write = signed(KEK, &dbx, attributes, 1, &hash(1));
    assert_eq!(variables.set(&dbx, attributes, &write), Err(EfiStatus::NotFound));
    assert_eq!(variables.get(&dbx), Err(EfiStatus::NotFound));
    // Nor does it take away what is there.
    variables.set(&dbx, AUTH, &signed(KEK, &dbx, AUTH, 1, &hash(1))).unwrap();
    assert!(variables.set(&dbx, APPEND | 1, &hash(2)).is_err());
    assert_eq!(variables.get(&dbx).unwrap().data, hash(1));
    let plain = global("Plain");
    assert_eq!(variables.set(&plain, APPEND | 1, b"x"), Err(EfiStatus::NotFound));
}

#[test]
fn a_private_variable_is_its_first_signers() {
    let private = VariableId::new(Guid::ZERO, "Private").unwrap();
    // Setup mode or not, platform key or not.
    for mut variables in [variables(), owned()] {
        assert_eq!(variables.set(&private, AUTH, &unsigned(1, b"x")), Err(EfiStatus::SecurityViolation));
        variables.set(&private, AUTH, &signed(STRANGER, &private, AUTH, 1, b"mine")).unwrap();
        for who in [PK, KEK, LEAF] {
            let refused = variables.set(&private, AUTH, &signed(who, &private, AUTH, 2, b"theirs"));
            assert_eq!(refused, Err(EfiStatus::SecurityViolation));
        }
        let more = signed(STRANGER, &private, AUTH | APPEND, 2, b" too");
        variables.set(&private, AUTH | APPEND, &more).unwrap();
        assert_eq!(variables.get(&private).unwrap().data, b"mine too");
        variables.set(&private, AUTH, &signed(STRANGER, &private, AUTH, 3, b"")).unwrap();
        variables.set(&private, AUTH, &signed(PK, &private, AUTH, 1, b"new owner")).unwrap();
    }
}

#[test]
fn signatures_of_openssl_are_good_with_and_without_content_info_and_attributes() {
    let db = image("db");
    let inner = {
        let whole = AnyRef::from_der(FOREIGN).unwrap();
        let (_, content) = AnyRef::from_der_partial(whole.value()).unwrap();
        AnyRef::from_der(content).unwrap().value().to_vec()
    };
    for pkcs7 in [FOREIGN, &inner, FOREIGN_ATTRIBUTES] {
        owned().set(&db, AUTH, &payload(time(5), pkcs7, &hash(1))).unwrap();
        for (second, byte) in [(6, 1), (5, 2)] {
            let refused = owned().set(&db, AUTH, &payload(time(second), pkcs7, &hash(byte)));
            assert_eq!(refused, Err(EfiStatus::SecurityViolation));
        }
    }
}

#[test]
fn attributes_are_signed_themselves() {
    // Their digest of another message does not make it the signed one, nor does a second digest.
    let db = image("db");
    let message = |byte| signed_message(&db, Attributes::POLICY, &time(5), &hash(byte));
    let digest = |byte| ring::digest::digest(&ring::digest::SHA256, &message(byte));
    let (own, other) = (digest(1), digest(2));
    let at = FOREIGN_ATTRIBUTES.windows(32).position(|bytes| bytes == own.as_ref()).unwrap();
    let mut forged = FOREIGN_ATTRIBUTES.to_vec();
    forged[at..at + 32].copy_from_slice(other.as_ref());
    for byte in [1, 2] {
        let refused = owned().set(&db, AUTH, &payload(time(5), &forged, &hash(byte)));
        assert_eq!(refused, Err(EfiStatus::SecurityViolation));
    }
}

#[test]
fn a_platform_key_that_can_sign_nothing_is_refused() {
    let refused = variables().set(&global("PK"), AUTH, &unsigned(0, &list(X509, &[&[7; 600]])));
    assert_eq!(refused, Err(EfiStatus::InvalidParameter));
    let refused = variables().set(&image("db"), AUTH, &unsigned(0, &list(SHA256, &[&[7; 31]])));
    assert_eq!(refused, Err(EfiStatus::InvalidParameter));
}

#[test]
fn a_certificate_knows_its_issuer() {
    let [kek, leaf, stranger] = [KEK, LEAF, STRANGER].map(|who| Certificate::parse(who.0).unwrap());
    assert!(leaf.is_issued_by(&kek, 0) && kek.is_issued_by(&kek, 9));
    assert!(!leaf.is_issued_by(&stranger, 0) && !kek.is_issued_by(&leaf, 0));
    for end in 0..LEAF.0.len() {
        assert!(Certificate::parse(&LEAF.0[..end]).is_none());
    }
    assert!(SignedData::parse(LEAF.0).is_none() && Certificate::parse(FOREIGN).is_none());
}

#[path = "chain_tests.rs"]
mod chains;
