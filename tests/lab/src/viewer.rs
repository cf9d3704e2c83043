//! A VNC viewer that counts: what came, how many bytes it was on the wire, and which sizes the picture had.
//!
//! It runs beside the VMM, busman or QEMU (`cargo lab watch`), until the lab has seen enough. Pixels are not decoded:
//! ZRLE says how long it is. Whether they are right is the business of other people's viewers.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::vm::Vm;

/// Between two looks whether the lab has seen enough.
const PERIOD: Duration = Duration::from_millis(100);

/// Encodings (RFC 6143, 7.7 and 7.8).
const ZRLE: i32 = 16;
const DESKTOP_SIZE: i32 = -223;

/// What came in updates.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Count {
    pub updates: u64,
    pub rectangles: u64,
    pub pixels: u64,
    /// On the wire, heads included.
    pub bytes: u64,
}

/// What a viewer saw.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// Sizes of the picture, the first one first.
    pub sizes: Vec<(u16, u16)>,
    /// Until the picture was complete.
    pub first: Count,
    /// From then on.
    pub later: Count,
}

/// A viewer that watches.
#[derive(Debug)]
pub struct Viewer {
    number: u32,
    folder: PathBuf,
}

impl Viewer {
    /// Lets a viewer in, and waits until it has the whole picture.
    pub fn start(vm: &mut Vm<'_>, socket: &Path) -> Result<Self> {
        let lab = std::env::current_exe()?;
        let (lab, socket) = (lab.as_path(), socket.display().to_string());
        let folder = PathBuf::from(format!("/tmp/busman-lab-{}.viewer", std::process::id()));
        let name = folder.display().to_string();
        let number = vm.start_beside(lab, &["watch", &socket, &name])?;
        wait_for(vm, &folder.join("ready"))?;
        Ok(Viewer { number, folder })
    }

    /// Lets it go; gives what it saw.
    pub fn end(self, vm: &mut Vm<'_>) -> Result<Seen> {
        self.end_after(vm, 0, 0)
    }

    /// Lets it go once it has seen so many updates and so many sizes; gives what it saw.
    pub fn end_after(self, vm: &mut Vm<'_>, updates: u64, sizes: usize) -> Result<Seen> {
        // Whole at once: the viewer reads it whenever it is there.
        const SCRIPT: &str = r#"echo "$1" >"$0.new" && mv "$0.new" "$0""#;
        let (file, goal) = (self.folder.join("stop").display().to_string(), format!("[{updates},{sizes}]"));
        vm.start_beside(Path::new("/bin/sh"), &["-c", SCRIPT, &file, &goal])?;
        let said = vm.end_beside(self.number)?;
        ensure!(said.code == 0, "the viewer fails: {}", said.errors.trim_end());
        serde_json::from_str(&said.output).with_context(|| format!("the viewer says {:?}", said.output))
    }
}

/// Waits until there is a file beside the VMM.
pub fn wait_for(vm: &mut Vm<'_>, file: &Path) -> Result<()> {
    // 100 s at most.
    const SCRIPT: &str = r#"for i in $(seq 1000); do [ -e "$0" ] && exit; sleep 0.1; done; exit 1"#;
    let file = file.display().to_string();
    let number = vm.start_beside(Path::new("/bin/sh"), &["-c", SCRIPT, &file])?;
    ensure!(vm.end_beside(number)?.code == 0, "there is no {file}");
    Ok(())
}

/// Makes a file beside the VMM.
pub fn touch(vm: &mut Vm<'_>, file: &Path) -> Result<()> {
    let number = vm.start_beside(Path::new("/bin/touch"), &[&file.display().to_string()])?;
    let said = vm.end_beside(number)?;
    ensure!(said.code == 0, "touch: {}", said.errors.trim_end());
    Ok(())
}

/// The viewer itself: leaves a file `ready` in its folder once it has the picture, and prints what it saw when a file
/// `stop` is there and it has seen as much as that says.
pub fn watch(socket: &Path, folder: &Path) -> Result<ExitCode> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stream = UnixStream::connect(socket)?;
    let connection = Connection::begin(stream, Arc::clone(&seen), folder.join("ready"))?;
    let watching = thread::spawn(move || connection.watch());
    let now = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let has_enough = || {
        let goal = fs::read(folder.join("stop")).ok().and_then(|goal| serde_json::from_slice(&goal).ok());
        goal.is_some_and(|(updates, sizes)| now().later.updates >= updates && now().sizes.len() >= sizes)
    };
    while !has_enough() {
        ensure!(!watching.is_finished(), "the server ended: {:?}", watching.join());
        thread::sleep(PERIOD);
    }
    let seen = now();
    println!("{}", serde_json::to_string(&seen)?);
    fs::remove_dir_all(folder)?;
    Ok(ExitCode::SUCCESS)
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Counted<R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.bytes += N as u64;
        Ok(bytes)
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn skip(&mut self, count: u32) -> io::Result<()> {
        let count = u64::from(count);
        let skipped = io::copy(&mut (&mut self.inner).take(count), &mut io::sink())?;
        self.bytes += skipped;
        if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// A viewer that is let in.
struct Connection {
    input: Counted<BufReader<UnixStream>>,
    output: UnixStream,
    seen: Arc<Mutex<Seen>>,
    size: (u16, u16),
    /// A file to make once the picture is complete.
    ready: Option<PathBuf>,
}

impl Connection {
    /// The handshake of RFB 3.8, without a password.
    fn begin(stream: UnixStream, seen: Arc<Mutex<Seen>>, ready: PathBuf) -> Result<Self> {
        let mut output = stream.try_clone()?;
        let mut input = Counted { inner: BufReader::new(stream), bytes: 0 };
        let version: [u8; 12] = input.take()?;
        output.write_all(&version)?;
        let [types] = input.take()?;
        input.skip(u32::from(types))?;
        output.write_all(&[1])?;
        ensure!(input.u32()? == 0, "the server wants a password");
        output.write_all(&[1])?;
        let size = (input.u16()?, input.u16()?);
        input.skip(16)?;
        let name = input.u32()?;
        input.skip(name)?;
        let encodings = [ZRLE, DESKTOP_SIZE].map(i32::to_be_bytes);
        output.write_all(&[&[2, 0, 0, 2], encodings.as_flattened()].concat())?;
        let mut connection = Connection { input, output, seen, size, ready: Some(ready) };
        connection.resized(size);
        connection.ask(false)?;
        Ok(connection)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn resized(&mut self, size: (u16, u16)) {
        self.size = size;
        self.change(|seen| seen.sizes.push(size));
    }

    fn ask(&mut self, incremental: bool) -> io::Result<()> {
        let [[a, b], [c, d]] = [self.size.0, self.size.1].map(u16::to_be_bytes);
        self.output.write_all(&[3, u8::from(incremental), 0, 0, 0, 0, a, b, c, d])
    }

    fn watch(mut self) -> Result<()> {
        loop {
            let [kind] = self.input.take()?;
            match kind {
                0 => self.update()?,
                // A bell, and a text of the clipboard.
                2 => {}
                3 => {
                    let [_, _, _] = self.input.take()?;
                    let length = self.input.u32()?;
                    self.input.skip(length)?;
                }
                other => bail!("the server sends message {other}"),
            }
        }
    }

    fn update(&mut self) -> Result<()> {
        let [_] = self.input.take()?;
        let mut count = Count { updates: 1, rectangles: self.input.u16()?.into(), ..Count::default() };
        for _ in 0..count.rectangles {
            let [_, _] = [self.input.u16()?, self.input.u16()?];
            let size = (self.input.u16()?, self.input.u16()?);
            match self.input.u32()?.cast_signed() {
                ZRLE => {
                    let length = self.input.u32()?;
                    self.input.skip(length)?;
                    count.pixels += u64::from(size.0) * u64::from(size.1);
                }
                DESKTOP_SIZE => self.resized(size),
                other => bail!("the server sends encoding {other}"),
            }
        }
        count.bytes = std::mem::take(&mut self.input.bytes);
        let is_first = self.ready.is_some();
        self.change(|seen| (if is_first { &mut seen.first } else { &mut seen.later }).add(count));
        let area = u64::from(self.size.0) * u64::from(self.size.1);
        let pixels = self.seen.lock().unwrap_or_else(PoisonError::into_inner).first.pixels;
        if let Some(ready) = self.ready.take_if(|_| pixels >= area) {
            fs::write(ready, "")?;
        }
        self.ask(true)?;
        Ok(())
    }
}

impl Count {
    fn add(&mut self, more: Count) {
        self.updates += more.updates;
        self.rectangles += more.rectangles;
        self.pixels += more.pixels;
        self.bytes += more.bytes;
    }
}
