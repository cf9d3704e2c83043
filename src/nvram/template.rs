//! Templates of Secure Boot's keys: JSON of the shape that OpenVMM and Azure have, which the user brings.
//!
//! ```text
//! {"properties": {"uefiSettings": {"signatureMode": "Replace", "signatures": {
//!     "PK":  {"type": "x509", "value": [CERTIFICATE]},
//!     "KEK": [{"type": "x509", "value": [CERTIFICATE, ...]}],
//!     "db":  [{"type": "x509", "value": [CERTIFICATE, ...]}],
//!     "dbx": [{"type": "sha256", "value": [HASH, ...]}]}}}}
//! ```
//!
//! Certificates (DER) and hashes are in base64; `dbx` may be missing.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use devices::firmware::nvram::VariableId;
use devices::firmware::nvram::protocol::{SHA256, SignatureList, X509, vendor};
use devices::guid::Guid;
use serde::Deserialize;
use thiserror::Error;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// Owner of the signatures. Updates of dbx name Microsoft there; what they bring a second time is found by it.
const OWNER: Guid = Guid::parse("77fa9abd-0359-4d32-bd60-28f4e78f784b");

/// Why a template cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The host.
    #[error("Cannot read the template {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Its shape.
    #[error("Cannot understand the template {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A mode that needs another template beneath.
    #[error("The template {} has the signature mode {mode:?}; only \"Replace\" is known", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: String,
    },
    /// A key that has to be there.
    #[error("The template {} has no {name}; to delete it: busman nvram set {name} --delete", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The variable.
        name: &'static str,
    },
    /// A key that is none.
    #[error("The template {} has something in {name} that is no {what} in base64", path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// Where it is.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
}

#[derive(Deserialize)]
struct Root {
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Properties {
    uefi_settings: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    signature_mode: String,
    signatures: Signatures,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signatures {
    #[serde(rename = "PK")]
    pk: Signature,
    #[serde(rename = "KEK")]
    kek: Vec<Signature>,
    db: Vec<Signature>,
    #[serde(default)]
    dbx: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "lowercase")]
enum Signature {
    X509(Vec<String>),
    Sha256(Vec<String>),
}

/// A variable and its data; one without is to go.
pub(super) type Keys = (VariableId, Option<Vec<u8>>);

/// The variables of a template, in the order in which to set them.
pub(super) fn read(path: &Path) -> Result<Vec<Keys>, TemplateError> {
    let text = std::fs::read(path).map_err(|source| TemplateError::Read { path: path.to_owned(), source })?;
    let root: Root = serde_json::from_slice(&text)
        .map_err(|source| TemplateError::Parse { path: path.to_owned(), source })?;
    let Settings { signature_mode: mode, signatures } = root.properties.uefi_settings;
    if mode != "Replace" {
        return Err(TemplateError::Mode { path: path.to_owned(), mode });
    }
    let Signatures { pk, kek, db, dbx } = signatures;
    let variables = [
        ("db", vendor::IMAGE_SECURITY, db),
        ("dbx", vendor::IMAGE_SECURITY, dbx),
        ("KEK", vendor::GLOBAL, kek),
        // With it the machine has an owner, and Secure Boot is on.
        ("PK", vendor::GLOBAL, vec![pk]),
    ];
    let mut read = Vec::new();
    for (name, vendor, signatures) in variables {
        let wrong = |what| TemplateError::Signature { path: path.to_owned(), name, what };
        let lists = signatures.iter().map(|signature| lists(signature).map_err(wrong));
        let data = lists.collect::<Result<Vec<_>, _>>()?.concat();
        // Without them there is no Secure Boot at all, which no template is for.
        if data.is_empty() && ["PK", "KEK"].contains(&name) {
            return Err(TemplateError::NoKey { path: path.to_owned(), name });
        }
        let id = VariableId::new(vendor, name);
        read.extend(id.map(|id| (id, (!data.is_empty()).then_some(data))));
    }
    Ok(read)
}

/// Signatures as lists of them; or what it is that one of them is not.
fn lists(signature: &Signature) -> Result<Vec<u8>, &'static str> {
    let decode = |text: &String| BASE64_STANDARD.decode(text.trim());
    match signature {
        // One list each: in a list all have one size.
        Signature::X509(texts) => {
            let certificate = |text| match decode(text) {
                // The tag of what a certificate is.
                Ok(der) if der.first() == Some(&0x30) => Ok(list(X509, der.len(), &[der])),
                _ => Err("certificate"),
            };
            texts.iter().map(certificate).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        }
        Signature::Sha256(texts) if texts.is_empty() => Ok(Vec::new()),
        Signature::Sha256(texts) => {
            let hash = |text| decode(text).ok().filter(|hash| hash.len() == 32).ok_or("SHA-256");
            let hashes = texts.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
            Ok(list(SHA256, 32, &hashes))
        }
    }
}

/// A list of signatures of one size.
fn list(kind: Guid, size: usize, signatures: &[Vec<u8>]) -> Vec<u8> {
    let number = |n: usize| U32::new(u32::try_from(n).unwrap_or(u32::MAX));
    let size = size_of::<Guid>() + size;
    let wire = SignatureList {
        kind,
        list_bytes: number(size_of::<SignatureList>() + size * signatures.len()),
        header_bytes: U32::ZERO,
        signature_bytes: number(size),
    };
    let signatures = signatures.iter().flat_map(|signature| [OWNER.as_bytes(), signature]);
    std::iter::once(wire.as_bytes()).chain(signatures).collect::<Vec<_>>().concat()
}
