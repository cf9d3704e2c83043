//! The server with other people's viewers: gtk-vnc, TightVNC and TigerVNC see the picture, pixel by pixel, and type.
//!
//! `cargo lab test` installs them and runs these tests: cargo test --lib vnc -- --ignored

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use devices::display::{Mode, Prefix, Rect, Scancode};

use super::desk::Seen;
use super::server::Fixture;

/// RFB's ports are displays to viewers; any port is one.
const FIRST_PORT: i32 = 5900;
/// How long a viewer may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end; gives what it wrote.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

/// Waits until there is something.
fn wait<T>(what: impl Fn() -> String, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

impl Fixture {
    /// As viewers name the server.
    fn display(&self) -> String {
        format!("127.0.0.1:{}", i32::from(self.port()) - FIRST_PORT)
    }

    /// The password in the file that viewers read.
    fn password_file(&self) -> String {
        let path = self.files.path("viewers-password");
        let mut tool = Command::new("tigervncpasswd");
        let mut tool =
            tool.arg("-f").stdin(Stdio::piped()).stdout(File::create(&path).unwrap()).spawn().unwrap();
        tool.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(tool.wait().unwrap().success());
        path
    }
}

#[test]
#[ignore = "needs gvnccapture: apt-get install gvncviewer"]
fn gtk_vnc_captures_every_pixel() {
    let fixture = Fixture::new("127.0.0.1:0");
    fixture.screen.show(Mode { width: 1024, height: 768 });
    let path = fixture.files.path("captured.png");
    run(Command::new("gvnccapture").args([&fixture.display(), &path]));
    let decoder = png::Decoder::new(BufReader::new(File::open(&path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (1024, 768, png::ColorType::Rgba));
    let pixels = pixels.as_chunks::<4>().0.iter().map(|&[red, green, blue, _]| [red, green, blue]);
    assert!(pixels.eq(fixture.screen.rgb()));
}

#[test]
#[ignore = "needs vncsnapshot, tigervncpasswd and djpeg: apt-get install vncsnapshot tigervnc-tools libjpeg-turbo-progs"]
fn a_viewer_of_rfb_3_3_sees_the_picture_behind_a_password() {
    let fixture = Fixture::new("127.0.0.1:0,password-file=@password");
    fixture.screen.show(Mode { width: 640, height: 480 });
    let (password, path) = (fixture.password_file(), fixture.files.path("captured.jpg"));
    for encoding in ["raw", "hextile", "zlib"] {
        let mut viewer = Command::new("vncsnapshot");
        viewer.args(["-quality", "100", "-encodings", encoding, "-passwd", &password]);
        run(viewer.args([&fixture.display(), &path]));
        let picture = run(Command::new("djpeg").args(["-pnm", &path]));
        let pixels = picture.strip_prefix(b"P6\n640 480\n255\n").unwrap();
        let differs = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 8;
        let wrong =
            pixels.iter().zip(fixture.screen.rgb().as_flattened()).filter(|&pair| differs(pair)).count();
        assert_eq!((wrong, pixels.len()), (0, 640 * 480 * 3), "{encoding}");
    }
}

/// An X server in memory, whose picture is a file.
struct Xvfb {
    _server: Running,
    display: String,
    picture: String,
}

impl Xvfb {
    fn start(fixture: &Fixture) -> Self {
        let directory = fixture.files.path("x");
        fs::create_dir(&directory).unwrap();
        let mut server = Command::new("Xvfb");
        // Otherwise the first client that goes takes the keyboard's layout with it.
        server.args([
            "-noreset",
            "-displayfd",
            "1",
            "-screen",
            "0",
            "800x600x24",
            "-nolisten",
            "tcp",
            "-fbdir",
            &directory,
        ]);
        let mut server = Running(server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut display = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut display).unwrap();
        let picture = format!("{directory}/Xvfb_screen0");
        Xvfb { _server: server, display: format!(":{}", display.trim()), picture }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.display);
        command
    }

    fn xdotool(&self, words: &str) -> String {
        let said = self.command("xdotool").args(words.split(' ')).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    }

    /// The part of the picture at a place; the file is an X window dump.
    fn pixels(&self, (left, top): (usize, usize), (width, height): (usize, usize)) -> Vec<[u8; 3]> {
        let mut dump = Vec::new();
        File::open(&self.picture).unwrap().read_to_end(&mut dump).unwrap();
        let word = |index: usize| u32::from_be_bytes(dump[index * 4..][..4].try_into().unwrap()) as usize;
        let (head, row, colours) = (word(0), word(12), word(19));
        let rows = dump[head + colours * 12..].chunks(row).skip(top).take(height);
        rows.flat_map(|row| row.as_chunks::<4>().0.iter().skip(left).take(width))
            .map(|&[blue, green, red, _]| [red, green, blue])
            .collect()
    }
}

#[test]
#[ignore = "needs TigerVNC's viewer and X: apt-get install tigervnc-viewer tigervnc-tools xvfb xdotool x11-xkb-utils"]
fn tigervnc_over_tls_shows_the_picture_and_types_on_a_german_keyboard() {
    let fixture = Fixture::new("127.0.0.1:0,password-file=@password,tls-cert=@cert,tls-key=@key");
    fixture.screen.show(Mode { width: 640, height: 480 });
    let x = Xvfb::start(&fixture);
    run(x.command("setxkbmap").arg("de"));
    let mut viewer = x.command("xtigervncviewer");
    viewer.args(["-SecurityTypes=X509Vnc", "-RemoteResize=0", "-AlertOnFatalError=0"]);
    viewer.arg(format!("-X509CA={}", fixture.files.path("cert")));
    viewer.arg(format!("-PasswordFile={}", fixture.password_file()));
    viewer.arg(format!("localhost::{}", fixture.port()));
    let log = fixture.files.path("viewer.log");
    viewer.env("HOME", fixture.files.path("")).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let _viewer = Running(viewer.spawn().unwrap());

    let window = || x.xdotool("search --name busman").lines().next().map(str::to_owned);
    let said = |what: &str| format!("{what}: {}", fs::read_to_string(&log).unwrap());
    let window = wait(|| said("TigerVNC has no window"), window);
    let place = || {
        let geometry = x.xdotool(&format!("getwindowgeometry {window}"));
        let place = geometry.split_once("Position: ")?.1.split_once(' ')?.0.split_once(',')?;
        Some((place.0.parse().ok()?, place.1.parse().ok()?))
    };
    let shows = |what: &str| {
        let is_shown = || (x.pixels(place()?, (640, 480)) == fixture.screen.rgb()).then_some(());
        wait(|| said(what), is_shown);
    };
    shows("the picture is not shown as it is");
    fixture.screen.fill(Rect { left: 100, top: 50, width: 33, height: 77 }, [1, 2, 200, 0]);
    shows("a change is not shown");

    // The key that a German keyboard calls z and a US keyboard y: its place is what the guest gets. X counts places
    // from 8.
    let key = Scancode { code: 0x15, prefix: Prefix::None };
    x.xdotool(&format!("windowfocus {window}"));
    x.xdotool(&format!("key {}", key.code + 8));
    let mut seen = Vec::new();
    wait(
        || said("the key does not arrive"),
        || {
            seen.extend(fixture.hands.take().into_iter().filter(|seen| matches!(seen, Seen::Key(..))));
            (seen.len() >= 2).then_some(())
        },
    );
    assert_eq!(seen, [Seen::Key(key, true), Seen::Key(key, false)]);
}

/// What a guest's keyboard was like when a key of it went down: its code, Shift, AltGr.
fn struck(seen: &[Seen]) -> Vec<(u16, bool, bool)> {
    let (mut shift, mut altgr, mut struck) = (false, false, Vec::new());
    for seen in seen {
        match *seen {
            Seen::Key(Scancode { code: 0x2a | 0x36, .. }, pressed) => shift = pressed,
            Seen::Key(Scancode { code: 0x38, prefix: Prefix::E0 }, pressed) => altgr = pressed,
            Seen::Key(Scancode { code, .. }, true) => struck.push((code, shift, altgr)),
            _ => {}
        }
    }
    struck
}

#[test]
#[ignore = "needs TightVNC's viewer, X and its layouts: apt-get install xtightvncviewer xvfb xdotool x11-xkb-utils xkb-data"]
fn a_viewer_that_knows_no_places_types_on_a_german_guest() {
    let fixture = Fixture::new("127.0.0.1:0,keymap=de");
    let x = Xvfb::start(&fixture);
    run(x.command("setxkbmap").arg("de"));
    let mut viewer = x.command("xtightvncviewer");
    viewer.arg(format!("localhost::{}", fixture.port())).env("HOME", fixture.files.path(""));
    let _viewer = Running(viewer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let window = || x.xdotool("search --name busman").lines().next().map(str::to_owned);
    let window = wait(|| "TightVNC has no window".to_owned(), window);
    x.xdotool(&format!("windowfocus {window}"));
    let typed = x.command("xdotool").args(["type", "--delay", "50", "äÖzY@€ß{/"]).status().unwrap();
    assert!(typed.success());
    let wanted = [
        (0x28, false, false),
        (0x27, true, false),
        (0x15, false, false),
        (0x2c, true, false),
        (0x10, false, true),
        (0x12, false, true),
        (0x0c, false, false),
        (0x08, false, true),
        (0x08, true, false),
    ];
    let mut seen = Vec::new();
    let mut all = || {
        seen.extend(fixture.hands.take());
        Some(struck(&seen)).filter(|struck| struck.len() >= wanted.len())
    };
    assert_eq!(wait(|| "what was typed does not arrive".to_owned(), &mut all), wanted);
}

#[test]
#[ignore = "needs TigerVNC's viewer and X: apt-get install tigervnc-viewer xvfb xdotool"]
fn tigervnc_asks_for_a_size_and_follows_when_the_guest_has_it() {
    let fixture = Fixture::new("127.0.0.1:0");
    let x = Xvfb::start(&fixture);
    let mut viewer = x.command("xtigervncviewer");
    viewer.args(["-DesktopSize=640x480", "-AlertOnFatalError=0"]);
    viewer.arg(format!("localhost::{}", fixture.port())).env("HOME", fixture.files.path(""));
    let _viewer = Running(viewer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mode = wait(|| "TigerVNC does not ask".to_owned(), || fixture.screen.preferred());
    assert_eq!(mode, Mode { width: 640, height: 480 });
    fixture.screen.show(mode);
    let follows = || {
        let window = x.xdotool("search --name busman").lines().next()?.to_owned();
        x.xdotool(&format!("getwindowgeometry {window}")).contains("Geometry: 640x480").then_some(())
    };
    wait(|| "TigerVNC does not follow".to_owned(), follows);
}
