//! The server on real sockets, with viewers of our own: who is let in, who is kept out, and who suffers from whom.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::display::{Mode, Rect};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use vmm_sys_util::tempdir::TempDir;

use super::client::{Client, Wire};
use super::desk::{Hands, Seen, TestScreen};
use crate::vnc::security::Password;
use crate::vnc::{Desk, Limits, Server, VncError, VncOptions};

/// A directory with a password and a certificate.
pub struct Files {
    pub directory: TempDir,
}

impl Files {
    pub fn new() -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-vnc").unwrap();
        let files = Files { directory };
        std::fs::write(files.path("password"), "secret\n").unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(files.path("cert"), pair.cert.pem()).unwrap();
        std::fs::write(files.path("key"), pair.signing_key.serialize_pem()).unwrap();
        files
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.as_path().join(name).display().to_string()
    }

    /// Options, with `@` for the directory.
    pub fn options(&self, text: &str) -> VncOptions {
        text.replace('@', &self.path("")).parse().unwrap()
    }
}

/// A server with a picture.
pub struct Fixture {
    pub files: Files,
    pub screen: Arc<TestScreen>,
    pub hands: Arc<Hands>,
    pub desk: Arc<Desk>,
    pub server: Option<Server>,
}

const LOCAL: &str = "127.0.0.1:0";
const PASSWORD: &str = "127.0.0.1:0,password-file=@password";

impl Fixture {
    pub fn new(options: &str) -> Self {
        Fixture::with(options, Limits::default())
    }

    fn with(options: &str, limits: Limits) -> Self {
        let files = Files::new();
        let (screen, hands) = (TestScreen::new(320, 200), Arc::new(Hands::default()));
        let desk = Arc::new(Desk::default());
        desk.put(screen.display(&hands));
        let server = Server::with_limits(&files.options(options), Arc::clone(&desk), limits).unwrap();
        Fixture { files, screen, hands, desk, server: Some(server) }
    }

    pub fn port(&self) -> u16 {
        self.server.as_ref().unwrap().address().unwrap().port()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        // No test waits for ever.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

/// Begins as a viewer of RFB 3.8 and chooses this security type.
fn choose(mut stream: impl Read + Write, kind: u8) -> io::Result<()> {
    let mut version = [0; 12];
    stream.read_exact(&mut version)?;
    stream.write_all(&version)?;
    let mut types = [0; 2];
    stream.read_exact(&mut types)?;
    assert_eq!((&version, types), (b"RFB 003.008\n", [1, kind]));
    stream.write_all(&[kind])
}

/// Answers the challenge.
fn answer(mut stream: impl Read + Write, password: &str) {
    let challenge = Wire(&mut stream).bytes(16).try_into().unwrap();
    stream.write_all(&Password::new(password.as_bytes()).unwrap().answer(challenge)).unwrap();
}

/// A viewer that needs no password, once it is in.
struct Viewer<S> {
    client: Client,
    wire: Wire<S>,
}

impl<S: Read + Write> Viewer<S> {
    fn new(mut stream: S) -> Self {
        stream.read_exact(&mut [0; 12]).unwrap();
        stream.write_all(b"RFB 003.008\n").unwrap();
        assert_eq!(Wire(&mut stream).bytes(2), [1, 1]);
        stream.write_all(&[1]).unwrap();
        Viewer::enter(stream)
    }

    /// What follows the choice and the password.
    fn enter(stream: S) -> Self {
        let mut wire = Wire(stream);
        assert_eq!(wire.u32(), 0, "let in");
        wire.0.write_all(&[1]).unwrap();
        Viewer { client: Client::begin(&mut wire), wire }
    }

    /// Understands ZRLE and another size of the picture.
    fn wish(&mut self) {
        let numbers = [16i32, -223].map(i32::to_be_bytes).concat();
        self.wire.0.write_all(&[&[2, 0, 0, 2], numbers.as_slice()].concat()).unwrap();
    }

    fn ask(&mut self, incremental: bool) {
        let request = [3, u8::from(incremental), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        self.wire.0.write_all(&request).unwrap();
    }

    fn update(&mut self, incremental: bool) {
        self.ask(incremental);
        self.client.update(&mut self.wire);
    }

    /// Follows the screen until the viewer sees what it shows.
    fn sees(&mut self, screen: &TestScreen) {
        while self.client.picture.iter().any(Option::is_none) || self.client.rgb() != screen.rgb() {
            self.update(true);
        }
    }
}

#[test]
fn a_viewer_on_a_unix_socket_sees_the_picture_and_what_changes() {
    let fixture = Fixture::new("unix:@vnc");
    let mut viewer = Viewer::new(UnixStream::connect(fixture.files.path("vnc")).unwrap());
    viewer.wish();
    viewer.update(false);
    assert_eq!(viewer.client.rgb(), fixture.screen.rgb());
    fixture.screen.fill(Rect { left: 5, top: 6, width: 70, height: 80 }, [1, 2, 3, 4]);
    viewer.sees(&fixture.screen);
    fixture.screen.show(Mode { width: 500, height: 30 });
    viewer.sees(&fixture.screen);
    let path = fixture.files.path("vnc");
    drop(fixture);
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn an_unchanged_screen_sends_no_byte_to_a_viewer_that_asks() {
    let fixture = Fixture::new(LOCAL);
    let mut viewer = Viewer::new(fixture.connect());
    viewer.update(false);
    viewer.sees(&fixture.screen);
    viewer.ask(true);
    // Whatever was sent before this change would be read before it.
    let changed = Rect { left: 1, top: 2, width: 3, height: 4 };
    fixture.screen.fill(changed, [9, 8, 7, 0]);
    viewer.client.rects.clear();
    viewer.client.update(&mut viewer.wire);
    assert_eq!(viewer.client.rects, [changed]);
    // After its answer there is nothing more on the wire: the next byte is the end.
    drop(fixture);
    assert_eq!(viewer.wire.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_ends_the_connection() {
    let limits = Limits { denial: Duration::ZERO, ..Limits::default() };
    let fixture = Fixture::with(PASSWORD, limits);
    let mut stream = fixture.connect();
    choose(&stream, 2).unwrap();
    answer(&stream, "secret");
    Viewer::enter(&mut stream).update(false);
    let mut stream = fixture.connect();
    choose(&stream, 2).unwrap();
    answer(&stream, "guess");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"\0\0\0\x01\0\0\0\x15The password is wrong");
}

#[test]
fn tls_is_spoken_with_the_users_certificate() {
    for (options, kind) in [
        ("127.0.0.1:0,tls-cert=@cert,tls-key=@key", 260u32),
        ("127.0.0.1:0,password-file=@password,tls-cert=@cert,tls-key=@key", 261),
    ] {
        let fixture = Fixture::new(options);
        let mut tcp = fixture.connect();
        choose(&tcp, 19).unwrap();
        assert_eq!(Wire(&tcp).bytes(2), [0, 2]);
        tcp.write_all(&[0, 2]).unwrap();
        assert_eq!(Wire(&tcp).bytes(2), [0, 1]);
        assert_eq!(Wire(&tcp).u32(), kind);
        tcp.write_all(&kind.to_be_bytes()).unwrap();
        assert_eq!(Wire(&tcp).u8(), 1);
        let mut roots = rustls::RootCertStore::empty();
        let cert = rustls::pki_types::CertificateDer::from_pem_file(fixture.files.path("cert")).unwrap();
        roots.add(cert).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        if kind == 261 {
            answer(&mut stream, "secret");
        }
        let mut viewer = Viewer::enter(stream);
        viewer.update(false);
        assert_eq!(viewer.client.rgb(), fixture.screen.rgb());
        // With one, TigerVNC often stood still before its password.
        assert_eq!(tls.tls13_tickets_received(), 0);
    }
}

#[test]
fn what_comes_before_tls_is_not_taken_for_what_comes_within() {
    let fixture = Fixture::new("127.0.0.1:0,tls-cert=@cert,tls-key=@key");
    let mut stream = fixture.connect();
    choose(&stream, 19).unwrap();
    // Somebody on the way adds a choice of its own.
    stream.write_all(&[0, 2, 0, 0, 1, 4, 1, 1, 1, 1]).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.len() < 12, "{said:?}");
}

#[test]
fn a_viewer_that_goes_lets_its_keys_and_buttons_go() {
    let fixture = Fixture::new(LOCAL);
    let mut viewer = Viewer::new(fixture.connect());
    viewer.wire.0.write_all(&[4, 1, 0, 0, 0, 0, 0xff, 0xe3]).unwrap();
    viewer.wire.0.write_all(&[5, 1, 0, 160, 0, 199]).unwrap();
    // Answered after what came before it.
    viewer.update(false);
    let control = devices::display::Scancode { code: 0x1d, prefix: devices::display::Prefix::None };
    assert_eq!(fixture.hands.take(), [Seen::Key(control, true), Seen::Pointer(16435, 32767, 1, 0)]);
    drop(viewer);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(fixture.hands.take());
        std::thread::yield_now();
    }
    assert_eq!(seen, [Seen::Key(control, false), Seen::Pointer(16435, 32767, 0, 0)]);
}

#[test]
fn viewers_stay_when_the_machine_is_reset() {
    let fixture = Fixture::new(LOCAL);
    let mut viewer = Viewer::new(fixture.connect());
    viewer.wish();
    viewer.update(false);
    let (screen, hands) = (TestScreen::new(99, 77), Arc::new(Hands::default()));
    fixture.desk.put(screen.display(&hands));
    viewer.sees(&screen);
    viewer.wire.0.write_all(&[4, 1, 0, 0, 0, 0, 0, b'a']).unwrap();
    viewer.update(false);
    assert_eq!((hands.take().len(), fixture.hands.take().len()), (1, 0));
    screen.fill(Rect { left: 0, top: 0, width: 9, height: 9 }, [0; 4]);
    viewer.sees(&screen);
}

#[test]
fn a_viewer_before_there_is_a_screen_sees_it_when_it_comes() {
    let fixture = Fixture::new(LOCAL);
    fixture.screen.blank();
    let mut viewer = Viewer::new(fixture.connect());
    viewer.wish();
    viewer.update(false);
    assert_eq!(viewer.client.size, Mode { width: 640, height: 480 });
    assert!(viewer.client.rgb().iter().all(|pixel| *pixel == [0; 3]));
    fixture.screen.show(Mode { width: 320, height: 200 });
    viewer.sees(&fixture.screen);
}

#[test]
fn viewers_that_read_nothing_keep_nobody_waiting() {
    let fixture = Fixture::new(LOCAL);
    fixture.screen.show(Mode { width: 2000, height: 1500 });
    let mut stalled: Vec<_> = (0..3).map(|_| Viewer::new(fixture.connect())).collect();
    for viewer in &mut stalled {
        // More pictures than any socket has room for.
        (0..20).for_each(|_| viewer.ask(false));
    }
    let mut viewer = Viewer::new(fixture.connect());
    viewer.wish();
    viewer.update(false);
    fixture.screen.fill(Rect { left: 0, top: 0, width: 9, height: 9 }, [0; 4]);
    viewer.sees(&fixture.screen);
}

#[test]
fn a_viewer_that_reads_nothing_for_long_is_disconnected() {
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(LOCAL, limits);
    fixture.screen.show(Mode { width: 2000, height: 1500 });
    let mut viewer = Viewer::new(fixture.connect());
    viewer.ask(false);
    let server = fixture.server.as_ref().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.viewers() > 0 {
        assert!(Instant::now() < deadline, "{server:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    // What was on its way comes, and then the end.
    let mut rest = Vec::new();
    let _ = viewer.wire.0.read_to_end(&mut rest);
    assert!(rest.len() < 2000 * 1500 * 4);
}

#[test]
fn who_does_not_come_in_gives_the_place_back() {
    let limits = Limits { handshake: Duration::from_millis(50), viewers: 1, ..Limits::default() };
    let fixture = Fixture::with(PASSWORD, limits);
    let mut silent = fixture.connect();
    let mut said = Vec::new();
    silent.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"RFB 003.008\n");
    // The next one is not turned away.
    let mut next = [0; 12];
    fixture.connect().read_exact(&mut next).unwrap();
    assert_eq!(&next, b"RFB 003.008\n");
}

#[test]
fn one_viewer_too_many_is_told_so() {
    let limits = Limits { viewers: 2, ..Limits::default() };
    let fixture = Fixture::with(LOCAL, limits);
    let mut viewers: Vec<_> = (0..2).map(|_| Viewer::new(fixture.connect())).collect();
    let mut said = Vec::new();
    fixture.connect().read_to_end(&mut said).unwrap();
    assert_eq!(said, b"RFB 003.008\n\0\0\0\0\x28Too many viewers; close one or try again");
    viewers.iter_mut().for_each(|viewer| viewer.update(false));
}

#[test]
fn nonsense_ends_one_connection_and_nothing_else() {
    let fixture = Fixture::new(LOCAL);
    let mut viewer = Viewer::new(fixture.connect());
    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"RFB 003.008\n\x01\x01\xee", &[0xff; 64]] {
        let mut stream = fixture.connect();
        stream.write_all(nonsense).unwrap();
        // An end with unread bytes is a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    viewer.update(false);
    assert_eq!(viewer.client.rgb(), fixture.screen.rgb());
}

#[test]
fn what_cannot_be_listened_on_is_said() {
    let fixture = Fixture::new(LOCAL);
    let start = |text: &str| {
        Server::start(&fixture.files.options(text), Arc::clone(&fixture.desk)).unwrap_err().to_string()
    };
    let taken = format!("127.0.0.1:{}", fixture.port());
    assert_eq!(start(&taken), format!("Cannot listen for VNC viewers on {taken}"));
    assert!(start("127.0.0.1:0,password-file=@none").starts_with("Cannot read the VNC password in "));
    assert!(start("127.0.0.1:0,tls-cert=@cert,tls-key=@cert").ends_with("cert has no private key in PEM"));
    let plain = Server::start(&fixture.files.options("unix:@password"), Arc::clone(&fixture.desk));
    assert!(matches!(plain, Err(VncError::Socket(_))));
}
