//! From the first byte to the moment when a viewer is let in (RFC 6143, 7.1 to 7.3).
//!
//! ```text
//! version → [security type → [VeNCrypt's version → subtype → TLS]] → [challenge → answer] → ClientInit
//! ```
//! Pure but for the challenge, which is random. Versions 3.3 and 3.7 are spoken too: some viewers know no other.

use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;

use super::protocol::{VERSION, result, security, vencrypt};
use super::security::{CHALLENGE, Security};

/// What there is to do after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait for more.
    More,
    /// What comes next is TLS, both ways.
    StartTls,
    /// The viewer is in.
    Begin,
}

/// Why a viewer is not let in.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// Something else, perhaps a browser.
    #[error("it does not speak RFB")]
    NotRfb,
    /// RFB as nobody speaks it.
    #[error("it speaks RFB {major}.{minor}; 3.3, 3.7 and 3.8 are known")]
    Version {
        /// Before the dot.
        major: u16,
        /// After it.
        minor: u16,
    },
    /// A security type that was not offered.
    #[error("it chose security type {0}, which was not offered")]
    SecurityType(u8),
    /// TLS is asked for, and this version of RFB cannot say so.
    #[error("it speaks RFB 3.3, which has no TLS")]
    NoTls,
    /// Another VeNCrypt.
    #[error("it speaks VeNCrypt {0}.{1}; 0.2 is known")]
    VenCryptVersion(u8, u8),
    /// A subtype that was not offered.
    #[error("it chose VeNCrypt's subtype {0}, which was not offered")]
    Subtype(u32),
    /// It has said too much, and somebody else may have said it.
    #[error("it did not wait for TLS")]
    Impatient,
    /// The host has no random numbers.
    #[error("the host has no random numbers")]
    Random,
    /// It does not know the password.
    #[error("its password is wrong")]
    Denied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V3_3,
    V3_7,
    V3_8,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Version,
    SecurityType,
    VenCryptVersion,
    Subtype,
    Answer([u8; CHALLENGE]),
    ClientInit,
}

/// A viewer that is not in yet.
#[derive(Debug)]
pub(super) struct Handshake {
    security: Arc<Security>,
    version: Version,
    state: State,
}

impl Handshake {
    /// Begins: says which version is spoken.
    pub(super) fn new(security: Arc<Security>, out: &mut Vec<u8>) -> Self {
        out.extend(VERSION);
        Handshake { security, version: Version::V3_8, state: State::Version }
    }

    /// Takes one message from the start of `bytes`, and says how many of them it was; `None` if it is not complete.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Step)>, HandshakeError> {
        match self.state {
            State::Version => message(bytes, |version: &[u8; 12]| self.version(version, out)),
            State::SecurityType => message(bytes, |&[kind]| self.security_type(kind, out)),
            State::VenCryptVersion => message(bytes, |&version| self.vencrypt_version(version, out)),
            State::Subtype => message(bytes, |&subtype| self.subtype(u32::from_be_bytes(subtype), out)),
            State::Answer(challenge) => message(bytes, |answer| self.answer(challenge, answer, out)),
            State::ClientInit => message(bytes, |_: &[u8; 1]| Ok(Step::Begin)),
        }
    }

    /// TLS is there.
    pub(super) fn tls_started(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        self.authenticate(out)
    }

    fn version(&mut self, version: &[u8; 12], out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let (major, minor) = numbers(version).ok_or(HandshakeError::NotRfb)?;
        self.version = match (major, minor) {
            // Apple's viewer says 3.889, and others have come near it.
            (3, 8..) | (4.., _) => Version::V3_8,
            (3, 7) => Version::V3_7,
            // What says 3.5 means 3.3.
            (3, 3..=6) => Version::V3_3,
            (major, minor) => return Err(HandshakeError::Version { major, minor }),
        };
        let kind = self.kind();
        if self.version > Version::V3_3 {
            out.extend([1, kind]);
            self.state = State::SecurityType;
            return Ok(Step::More);
        }
        if kind == security::VENCRYPT {
            out.extend(0u32.to_be_bytes());
            put_reason("This server needs TLS, which RFB 3.3 does not have", out);
            return Err(HandshakeError::NoTls);
        }
        out.extend(u32::from(kind).to_be_bytes());
        self.authenticate(out)?;
        Ok(Step::More)
    }

    /// The one security type that is offered.
    fn kind(&self) -> u8 {
        match &*self.security {
            Security { tls: Some(_), .. } => security::VENCRYPT,
            Security { password: Some(_), .. } => security::VNC_AUTHENTICATION,
            Security { .. } => security::NONE,
        }
    }

    fn security_type(&mut self, kind: u8, out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        if kind != self.kind() {
            self.deny("This security type was not offered", out);
            return Err(HandshakeError::SecurityType(kind));
        }
        if kind == security::VENCRYPT {
            out.extend(vencrypt::VERSION);
            self.state = State::VenCryptVersion;
        } else {
            self.authenticate(out)?;
        }
        Ok(Step::More)
    }

    fn vencrypt_version(&mut self, version: [u8; 2], out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        if version != vencrypt::VERSION {
            out.push(1);
            return Err(HandshakeError::VenCryptVersion(version[0], version[1]));
        }
        out.extend([0, 1]);
        out.extend(self.tls_kind().to_be_bytes());
        self.state = State::Subtype;
        Ok(Step::More)
    }

    /// The one subtype that is offered.
    fn tls_kind(&self) -> u32 {
        if self.security.password.is_some() { vencrypt::X509_VNC } else { vencrypt::X509_NONE }
    }

    fn subtype(&mut self, subtype: u32, out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        if subtype != self.tls_kind() {
            out.push(0);
            return Err(HandshakeError::Subtype(subtype));
        }
        out.push(1);
        Ok(Step::StartTls)
    }

    /// Sends the challenge, or lets the viewer in.
    fn authenticate(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        if self.security.password.is_none() {
            // Before 3.8, who needs no password needs no result.
            if self.version == Version::V3_8 || self.security.tls.is_some() {
                out.extend(result::OK.to_be_bytes());
            }
            self.state = State::ClientInit;
            return Ok(());
        }
        let mut challenge = [0; CHALLENGE];
        let filled = getrandom(&mut challenge, GetRandomFlags::empty());
        filled.ok().filter(|length| *length == CHALLENGE).ok_or(HandshakeError::Random)?;
        out.extend(challenge);
        self.state = State::Answer(challenge);
        Ok(())
    }

    fn answer(
        &mut self,
        challenge: [u8; CHALLENGE],
        answer: &[u8; CHALLENGE],
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let password = self.security.password.as_ref();
        if !password.is_some_and(|password| password.is_answer(challenge, answer)) {
            self.deny("The password is wrong", out);
            return Err(HandshakeError::Denied);
        }
        out.extend(result::OK.to_be_bytes());
        self.state = State::ClientInit;
        Ok(Step::More)
    }

    fn deny(&self, reason: &str, out: &mut Vec<u8>) {
        out.extend(result::FAILED.to_be_bytes());
        if self.version == Version::V3_8 {
            put_reason(reason, out);
        }
    }
}

/// A message of `N` bytes.
fn message<const N: usize>(
    bytes: &[u8],
    take: impl FnOnce(&[u8; N]) -> Result<Step, HandshakeError>,
) -> Result<Option<(usize, Step)>, HandshakeError> {
    let Some(message) = bytes.first_chunk::<N>() else { return Ok(None) };
    Ok(Some((N, take(message)?)))
}

/// The numbers of `RFB 003.008\n`.
fn numbers(version: &[u8; 12]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(version).ok()?;
    let (major, minor) = text.strip_prefix("RFB ")?.strip_suffix('\n')?.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    Some((digits(major)?, digits(minor)?))
}

fn put_reason(reason: &str, out: &mut Vec<u8>) {
    out.extend(u32::try_from(reason.len()).unwrap_or_default().to_be_bytes());
    out.extend(reason.bytes());
}

#[cfg(test)]
#[path = "tests/handshake.rs"]
mod tests;
