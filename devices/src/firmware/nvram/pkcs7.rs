//! Signatures of authenticated variables: PKCS#7 `SignedData` (RFC 2315) and X.509 certificates (RFC 5280), as far as
//! EFI uses them: RSA with SHA-2, detached contents. EFI wants no signed attributes, yet signers are about that have
//! them, and firmware takes theirs.
//!
//! The cryptography is `ring`'s (RSA of 2048 to 8192 bits, PKCS#1 v1.5), the DER that of `der`. Everything in here is a
//! guest's bytes: whatever is not exactly as expected is no signature. Certificates have no dates here: a machine's
//! clock is its guest's, and firmware has always ignored them.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use ring::digest;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// Of [`KEY_USAGE`]'s first byte: keyCertSign.
const SIGNS_CERTIFICATES: u8 = 0x80 >> 5;

/// Certificates that a signature may bring.
const CERTIFICATES_MAX: usize = 8;

/// The elements of a SEQUENCE, a SET or a constructed context-specific tag.
fn elements<'a>(parent: &AnyRef<'a>) -> Option<Vec<AnyRef<'a>>> {
    let mut reader = SliceReader::new(parent.value()).ok()?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.decode().ok()?);
    }
    Some(elements)
}

fn is_context(any: &AnyRef<'_>, number: u32) -> bool {
    any.tag() == Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// The first element of an `AlgorithmIdentifier`; parameters of RSA and SHA-2 are NULL or absent, and say nothing.
fn algorithm(any: &AnyRef<'_>) -> Option<ObjectIdentifier> {
    elements(any)?.first()?.decode_as().ok()
}

fn verifies(
    key: &RsaPublicKeyComponents<&[u8]>,
    parameters: &'static RsaParameters,
    message: &[u8],
    signature: &[u8],
) -> bool {
    key.verify(parameters, message, signature).is_ok()
}

/// A certificate with an RSA key.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// All of it.
    whole: AnyRef<'a>,
    /// The part that its issuer signed, with its tag.
    signed: Vec<u8>,
    serial: AnyRef<'a>,
    issuer: AnyRef<'a>,
    subject: AnyRef<'a>,
    key: RsaPublicKeyComponents<&'a [u8]>,
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
    /// How many certificates may be between one that it issues and who signed; none if it may not issue any.
    issues: Option<usize>,
}

impl<'a> Certificate<'a> {
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        Self::new(AnyRef::from_der(der).ok()?)
    }

    fn new(whole: AnyRef<'a>) -> Option<Self> {
        let [body, signature_algorithm, signature] = elements(&whole)?.try_into().ok()?;
        let fields = elements(&body)?;
        // The version, an explicit [0], is absent in version 1.
        let fields = match fields.as_slice() {
            [version, rest @ ..] if is_context(version, 0) => rest,
            all => all,
        };
        let [serial, _, issuer, _, subject, key, rest @ ..] = fields else { return None };
        let [key_algorithm, key] = elements(key)?.try_into().ok()?;
        if algorithm(&key_algorithm)? != RSA {
            return None;
        }
        Some(Certificate {
            whole,
            signed: body.to_der().ok()?,
            serial: *serial,
            issuer: *issuer,
            subject: *subject,
            key: rsa_key(bits(&key)?)?,
            algorithm: algorithm(&signature_algorithm)?,
            signature: bits(&signature)?,
            issues: match rest.iter().find(|any| is_context(any, 3)) {
                Some(extensions) => issues(extensions),
                // Before version 3 roots were known by that they sign themselves.
                None => (issuer == subject).then_some(usize::MAX),
            },
        })
    }

    pub fn is_same(&self, other: &Certificate<'_>) -> bool {
        self.whole == other.whole
    }

    /// Whether another has issued it, which may do so; `above` certificates are between it and who signed.
    pub fn is_issued_by(&self, issuer: &Certificate<'_>, above: usize) -> bool {
        if self.issuer != issuer.subject || issuer.issues.is_none_or(|most| above > most) {
            return false;
        }
        let parameters = match self.algorithm {
            RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
            RSA_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
            RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        verifies(&issuer.key, parameters, &self.signed, self.signature)
    }

    /// SHA-256 of all of it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let whole = self.whole.to_der().unwrap_or_default();
        digest::digest(&digest::SHA256, &whole).as_ref().try_into().unwrap_or([0; 32])
    }
}

/// What a certificate of version 3 may issue by its extensions (RFC 5280, 4.2.1.3 and 4.2.1.9): as
/// `Certificate::issues`. One with a critical extension that is not understood here issues nothing.
fn issues(extensions: &AnyRef<'_>) -> Option<usize> {
    let [list] = elements(extensions)?.try_into().ok()?;
    let (mut most, mut usage) = (None, None);
    for extension in elements(&list)? {
        let (id, critical, value) = match elements(&extension)?.as_slice() {
            [id, value] => (*id, false, *value),
            [id, critical, value] => (*id, critical.decode_as().ok()?, *value),
            _ => return None,
        };
        let contents = AnyRef::from_der(value.value());
        let twice = match id.decode_as().ok()? {
            BASIC_CONSTRAINTS => most.replace(path_length(&contents.ok()?)?).is_some(),
            KEY_USAGE => usage.replace(*contents.ok()?.value().get(1)?).is_some(),
            EXTENDED_KEY_USAGE => false,
            _ => critical,
        };
        if twice {
            return None;
        }
    }
    match (most, usage) {
        (_, Some(usage)) if usage & SIGNS_CERTIFICATES == 0 => None,
        (None, None) => None,
        (most, _) => Some(most.unwrap_or(usize::MAX)),
    }
}

/// Of an authority's `BasicConstraints`.
fn path_length(constraints: &AnyRef<'_>) -> Option<usize> {
    let elements = elements(constraints)?;
    let (authority, length) = match elements.as_slice() {
        [authority] => (authority, usize::MAX),
        [authority, length] => (authority, usize::try_from(length.decode_as::<u32>().ok()?).ok()?),
        _ => return None,
    };
    authority.decode_as::<bool>().ok()?.then_some(length)
}

/// The bytes of a BIT STRING of whole bytes.
fn bits<'a>(any: &AnyRef<'a>) -> Option<&'a [u8]> {
    match (any.tag(), any.value()) {
        (Tag::BitString, [0, bytes @ ..]) => Some(bytes),
        _ => None,
    }
}

/// `RSAPublicKey`: modulus and exponent, positive.
fn rsa_key(der: &[u8]) -> Option<RsaPublicKeyComponents<&[u8]>> {
    let [n, e] = elements(&AnyRef::from_der(der).ok()?)?.try_into().ok()?;
    let positive =
        |any: AnyRef<'_>| any.tag() == Tag::Integer && any.value().first().is_some_and(|&b| b < 0x80);
    if !positive(n) || !positive(e) {
        return None;
    }
    let [n, e] = [n, e].map(|any| any.value().strip_prefix(&[0]).unwrap_or_else(|| any.value()));
    Some(RsaPublicKeyComponents { n, e })
}

/// A signature, and the certificates that came with it.
#[derive(Debug)]
pub(super) struct SignedData<'a> {
    certificates: Vec<Certificate<'a>>,
    issuer: AnyRef<'a>,
    serial: AnyRef<'a>,
    hash: &'static digest::Algorithm,
    attributes: Option<SignedAttributes<'a>>,
    parameters: &'static RsaParameters,
    signature: &'a [u8],
}

/// What a signer signs instead of the message: it has the message's digest in it.
#[derive(Debug)]
struct SignedAttributes<'a> {
    /// The attributes as they are signed: as a SET.
    covered: Vec<u8>,
    digest: &'a [u8],
}

impl<'a> SignedAttributes<'a> {
    fn parse(set: &AnyRef<'a>) -> Option<Self> {
        let mut digests = elements(set)?.into_iter().filter_map(|attribute| {
            let [kind, values] = elements(&attribute)?.try_into().ok()?;
            (kind.decode_as() == Ok(MESSAGE_DIGEST)).then_some(values)
        });
        let (Some(values), None) = (digests.next(), digests.next()) else { return None };
        let [digest] = elements(&values)?.try_into().ok()?;
        let digest = (digest.tag() == Tag::OctetString).then(|| digest.value())?;
        let covered = AnyRef::new(Tag::Set, set.value()).ok()?.to_der().ok()?;
        Some(SignedAttributes { covered, digest })
    }
}

impl<'a> SignedData<'a> {
    /// Takes it apart; EFI has it with and without `ContentInfo` around it.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let outer = AnyRef::from_der(der).ok()?;
        let inner = match elements(&outer)?.as_slice() {
            [kind, content] if kind.decode_as() == Ok(SIGNED_DATA) && is_context(content, 0) => {
                let [inner] = elements(content)?.try_into().ok()?;
                inner
            }
            _ => outer,
        };
        let fields = elements(&inner)?;
        // Version, digest algorithms, the contents, which are detached, perhaps revocations, and who signed.
        let [_, _, _, optional @ .., signers] = fields.as_slice() else { return None };
        let certificates = match optional.first() {
            Some(any) if is_context(any, 0) => elements(any)?,
            _ => Vec::new(),
        };
        if certificates.len() > CERTIFICATES_MAX {
            return None;
        }
        let [signer] = elements(signers)?.try_into().ok()?;
        let signer = elements(&signer)?;
        let [_, who, hash, rest @ ..] = signer.as_slice() else { return None };
        let (attributes, rest) = match rest {
            [set, rest @ ..] if is_context(set, 0) => (Some(SignedAttributes::parse(set)?), rest),
            rest => (None, rest),
        };
        let [kind, signature, unsigned @ ..] = rest else { return None };
        let [issuer, serial] = elements(who)?.try_into().ok()?;
        let (parameters, hash) = match (algorithm(hash)?, algorithm(kind)?) {
            (SHA256, RSA | RSA_SHA256) => (&RSA_PKCS1_2048_8192_SHA256, &digest::SHA256),
            (SHA384, RSA | RSA_SHA384) => (&RSA_PKCS1_2048_8192_SHA384, &digest::SHA384),
            (SHA512, RSA | RSA_SHA512) => (&RSA_PKCS1_2048_8192_SHA512, &digest::SHA512),
            _ => return None,
        };
        let known = signature.tag() == Tag::OctetString && unsigned.iter().all(|any| is_context(any, 1));
        let signature = known.then(|| signature.value())?;
        let certificates = certificates.into_iter().filter_map(Certificate::new).collect();
        Some(SignedData { certificates, issuer, serial, hash, attributes, parameters, signature })
    }

    /// All certificates that came with it.
    pub fn certificates(&self) -> &[Certificate<'a>] {
        &self.certificates
    }

    /// Certificates that came with it and that it names as the signer's.
    pub fn signers(&self) -> impl Iterator<Item = &Certificate<'a>> {
        self.certificates.iter().filter(|certificate| self.names(certificate))
    }

    fn names(&self, certificate: &Certificate<'_>) -> bool {
        certificate.issuer == self.issuer && certificate.serial == self.serial
    }

    /// Whether it names this certificate, and its key signed the message.
    pub fn is_by(&self, certificate: &Certificate<'_>, message: &[u8]) -> bool {
        let covered = match &self.attributes {
            None => message,
            Some(attributes) if digest::digest(self.hash, message).as_ref() == attributes.digest => {
                attributes.covered.as_slice()
            }
            Some(_) => return false,
        };
        self.names(certificate) && verifies(&certificate.key, self.parameters, covered, self.signature)
    }
}
