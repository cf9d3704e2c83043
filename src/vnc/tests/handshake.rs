//! How viewers are let in, message by message.

use super::*;
use crate::vnc::security::Password;

fn with_password() -> Security {
    Security { password: Password::new(b"secret"), tls: None }
}

fn with_tls(password: Option<&[u8]>) -> Security {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    Security { password: password.and_then(Password::new), tls: Some(Arc::new(config)) }
}

/// A server that was told a version.
struct Server(Handshake);

impl Server {
    fn new(security: Security) -> Self {
        let mut out = Vec::new();
        let server = Server(Handshake::new(Arc::new(security), &mut out));
        assert_eq!(out, b"RFB 003.008\n");
        server
    }

    /// What it answers to a message, which is complete and not before.
    fn say(&mut self, message: &[u8]) -> (Result<Step, HandshakeError>, Vec<u8>) {
        let mut out = Vec::new();
        for length in 0..message.len() {
            assert_eq!(self.0.receive(&message[..length], &mut out), Ok(None));
        }
        let said = self.0.receive(message, &mut out);
        let said = said.map(|done| {
            let (used, step) = done.unwrap();
            assert_eq!(used, message.len());
            step
        });
        (said, out)
    }
}

#[test]
fn without_security_a_viewer_is_let_in_in_every_version() {
    for (version, choice, answers) in [
        (b"RFB 003.008\n", true, [&[1, 1][..], &[0, 0, 0, 0]]),
        (b"RFB 003.889\n", true, [&[1, 1], &[0, 0, 0, 0]]),
        (b"RFB 004.001\n", true, [&[1, 1], &[0, 0, 0, 0]]),
        (b"RFB 003.007\n", true, [&[1, 1], &[]]),
        (b"RFB 003.005\n", false, [&[0, 0, 0, 1], &[]]),
        (b"RFB 003.003\n", false, [&[0, 0, 0, 1], &[]]),
    ] {
        let mut server = Server::new(Security::default());
        assert_eq!(server.say(version), (Ok(Step::More), answers[0].to_vec()));
        if choice {
            assert_eq!(server.say(&[1]), (Ok(Step::More), answers[1].to_vec()));
        }
        assert_eq!(server.say(&[1]), (Ok(Step::Begin), vec![]));
    }
}

#[test]
fn a_password_lets_in_and_a_wrong_one_does_not() {
    for (version, types, reason) in [
        (b"RFB 003.008\n", &[1, 2][..], true),
        (b"RFB 003.007\n", &[1, 2], false),
        (b"RFB 003.003\n", &[0, 0, 0, 2], false),
    ] {
        for right in [true, false] {
            let mut server = Server::new(with_password());
            let (_, mut out) = server.say(version);
            assert!(out.starts_with(types));
            if types.len() == 2 {
                out = server.say(&[2]).1;
            }
            let challenge = *out.last_chunk().unwrap();
            let password = Password::new(if right { b"secret" } else { b"guess" }).unwrap();
            let (said, out) = server.say(&password.answer(challenge));
            if right {
                assert_eq!((said, out), (Ok(Step::More), vec![0; 4]));
                assert_eq!(server.say(&[0]).0, Ok(Step::Begin));
            } else {
                assert_eq!(said, Err(HandshakeError::Denied));
                assert_eq!((&out[..4], out.len() > 4), ([0, 0, 0, 1].as_slice(), reason));
            }
        }
    }
}

#[test]
fn no_challenge_comes_twice() {
    let challenge = || {
        let mut server = Server::new(with_password());
        server.say(b"RFB 003.008\n").0.unwrap();
        server.say(&[2]).1
    };
    assert_ne!(challenge(), challenge());
}

#[test]
fn tls_comes_before_the_password() {
    for (password, subtype) in [(None, [0, 0, 1, 4]), (Some(b"secret".as_slice()), [0, 0, 1, 5])] {
        let mut server = Server::new(with_tls(password));
        assert_eq!(server.say(b"RFB 003.008\n").1, [1, 19]);
        assert_eq!(server.say(&[19]).1, [0, 2]);
        assert_eq!(server.say(&[0, 2]).1, [&[0, 1], subtype.as_slice()].concat());
        assert_eq!(server.say(&subtype), (Ok(Step::StartTls), vec![1]));
        let mut out = Vec::new();
        server.0.tls_started(&mut out).unwrap();
        assert_eq!(out.len(), if password.is_some() { 16 } else { 4 });
    }
}

#[test]
fn what_was_not_offered_is_refused() {
    let error = |security: Security, messages: &[&[u8]]| {
        let mut server = Server::new(security);
        let (last, first) = messages.split_last().unwrap();
        first.iter().for_each(|message| assert!(server.say(message).0.is_ok()));
        server.say(last)
    };
    let version = b"RFB 003.008\n".as_slice();
    let none = Security::default;
    assert_eq!(error(none(), &[b"GET / HTTP/1"]).0, Err(HandshakeError::NotRfb));
    assert_eq!(error(none(), &[b"RFB 0+3.008\n"]).0, Err(HandshakeError::NotRfb));
    assert_eq!(error(none(), &[b"RFB 002.000\n"]).0, Err(HandshakeError::Version { major: 2, minor: 0 }));
    let (said, out) = error(with_password(), &[version, &[1]]);
    assert_eq!(said, Err(HandshakeError::SecurityType(1)), "None, where a password is needed");
    assert_eq!(&out[..4], [0, 0, 0, 1]);
    assert_eq!(error(with_tls(None), &[version, &[1]]).0, Err(HandshakeError::SecurityType(1)));
    assert_eq!(error(with_tls(None), &[b"RFB 003.003\n"]).0, Err(HandshakeError::NoTls));
    let other = error(with_tls(None), &[version, &[19], &[0, 1]]);
    assert_eq!(other, (Err(HandshakeError::VenCryptVersion(0, 1)), vec![1]));
    // X509None, where a password is needed too.
    let other = error(with_tls(Some(b"secret")), &[version, &[19], &[0, 2], &[0, 0, 1, 4]]);
    assert_eq!(other, (Err(HandshakeError::Subtype(260)), vec![0]));
}
