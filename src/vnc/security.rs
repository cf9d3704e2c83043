//! What lets a viewer in: a password, a certificate, both, or nothing at all.
//!
//! VNC's own authentication (RFC 6143, 7.2.2) is a challenge that the viewer encrypts by DES with the password, of
//! which only eight bytes count: good enough between people on one network, and what viewers know. Nothing else is
//! encrypted unless there is a certificate: then the whole connection is, by TLS inside VeNCrypt.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Bytes of a challenge, and of what comes back.
pub(super) const CHALLENGE: usize = 16;
/// Bytes of a password that count.
const PASSWORD_MAX: usize = 8;

/// What a viewer has to bring.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// A password.
    pub password: Option<Password>,
    /// TLS, with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
}

/// A password of 1 to 8 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; PASSWORD_MAX]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why viewers cannot be let in as the user wants.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// The password's file.
    #[error("Cannot read the VNC password in {}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Nothing, or more than viewers send.
    #[error("The first line of {} has {length} bytes; a VNC password has 1 to {PASSWORD_MAX}", path.display())]
    PasswordLength {
        /// The file.
        path: PathBuf,
        /// Of its first line.
        length: usize,
    },
    /// The certificate's file, or the key's.
    #[error("{} has no {what} in PEM", path.display())]
    Pem {
        /// What it should have.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Both are there and do not go together.
    #[error("TLS cannot use the certificate {} with the key {}", cert.display(), key.display())]
    Tls {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
}

impl Password {
    /// The first line of a file.
    ///
    /// # Errors
    /// When there is no such file or no such password.
    pub fn read(path: &Path) -> Result<Self, SecurityError> {
        let failed = |source| SecurityError::PasswordFile { path: path.to_owned(), source };
        let text = fs::read(path).map_err(failed)?;
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            log::warn!("Others can read the VNC password in {}; chmod 600 keeps it secret", path.display());
        }
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Password::new(line)
            .ok_or_else(|| SecurityError::PasswordLength { path: path.to_owned(), length: line.len() })
    }

    /// A password, if it is one.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut password = [0; PASSWORD_MAX];
        password.get_mut(..bytes.len()).filter(|bytes| !bytes.is_empty())?.copy_from_slice(bytes);
        Some(Password(password))
    }

    /// What a viewer with this password makes of a challenge.
    #[must_use]
    pub fn answer(&self, challenge: [u8; CHALLENGE]) -> [u8; CHALLENGE] {
        // VNC has the bits of each byte of the key the wrong way round.
        let cipher = Des::new(&Array(self.0.map(u8::reverse_bits)));
        let mut answer = challenge;
        for block in answer.as_chunks_mut::<8>().0 {
            let mut bytes = Array(*block);
            cipher.encrypt_block(&mut bytes);
            *block = bytes.0;
        }
        answer
    }

    /// Whether an answer is right, in a time that does not tell how much of it is.
    #[must_use]
    pub(super) fn is_answer(&self, challenge: [u8; CHALLENGE], answer: &[u8; CHALLENGE]) -> bool {
        let wanted = self.answer(challenge);
        let differences = wanted.iter().zip(answer).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differences) == 0
    }
}

/// TLS with a certificate (and those that vouch for it) and its key, both in PEM.
///
/// # Errors
/// When a file is missing or has something else, or when the two do not go together.
pub fn tls(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, SecurityError> {
    let pem = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SecurityError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(pem("certificate", cert))?;
    if chain.is_empty() {
        return Err(pem("certificate", cert)(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(pem("private key", key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    let mut config =
        config.map_err(|source| SecurityError::Tls { cert: cert.to_owned(), key: key.to_owned(), source })?;
    // TigerVNC 1.12 stands still when a ticket comes in one read with what follows; nobody resumes a session anyway.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn a_challenge_is_encrypted_as_openssl_does_it() {
        // openssl enc -des-ecb -nopad -K cea6c64ea62e0000: each byte of "secret" has its bits the other way round.
        let challenge = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let answer = Password::new(b"secret").unwrap().answer(challenge);
        let openssl = "ee22539f33a5983ec12f9c2edbc995dd";
        assert_eq!(answer.map(|byte| format!("{byte:02x}")).concat(), openssl);
        assert!(Password::new(b"secret").unwrap().is_answer(challenge, &answer));
        assert!(!Password::new(b"Secret").unwrap().is_answer(challenge, &answer));
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let directory = TempDir::new_with_prefix("/tmp/busman-vnc").unwrap();
        let path = directory.as_path().join("password");
        for (text, password) in [("secret", "secret"), ("12345678\nmore\n", "12345678"), ("a b\r\n", "a b")] {
            fs::write(&path, text).unwrap();
            assert_eq!(Password::read(&path).unwrap(), Password::new(password.as_bytes()).unwrap());
        }
        for (text, sentence) in [
            ("", "has 0 bytes; a VNC password has 1 to 8"),
            ("\nx", "has 0 bytes"),
            ("123456789", "has 9 bytes"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Password::read(&path).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
        let missing = Password::read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(missing, "Cannot read the VNC password in /nonexistent");
        assert_eq!(format!("{:?}", Password::new(b"secret")), "Some(Password)", "no log has it");
    }

    #[test]
    fn files_without_a_certificate_or_of_two_pairs_are_named() {
        let directory = TempDir::new_with_prefix("/tmp/busman-vnc").unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.as_path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let cert = file("cert.pem", &one.cert.pem());
        let key = file("key.pem", &one.signing_key.serialize_pem());
        let empty = file("empty.pem", "");
        let foreign = file("foreign.pem", &other.signing_key.serialize_pem());
        tls(&cert, &key).unwrap();
        let error = |cert: &Path, key: &Path| tls(cert, key).unwrap_err().to_string();
        assert!(error(&empty, &key).ends_with("empty.pem has no certificate in PEM"));
        assert!(error(&cert, &empty).ends_with("empty.pem has no private key in PEM"));
        assert!(error(Path::new("/nonexistent"), &key).starts_with("/nonexistent has no certificate"));
        assert!(error(&cert, &foreign).starts_with("TLS cannot use the certificate"));
    }
}
