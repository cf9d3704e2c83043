//! A swtpm of our own: a child that ends with us, whatever becomes of us.
//!
//! Its control channel is its standard input, so that no path has to be agreed on and nobody else can use it. It ends by
//! itself when the sockets close.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::TpmError;

/// What it says goes here, in the directory of its state.
const LOG: &str = "swtpm.log";
/// Bytes of that which an error repeats.
const LAST_WORDS: u64 = 500;
/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running swtpm.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; gives the control channel. The directory of its state is made if there is none.
    pub fn start(state: &Path) -> Result<(Self, UnixStream), TpmError> {
        let log = state.join(LOG);
        let file = make(state)
            .and_then(|()| open(&log))
            .map_err(|source| TpmError::State { path: state.to_owned(), source })?;
        let (ours, theirs) = UnixStream::pair().map_err(TpmError::Start)?;
        let mut tpmstate = std::ffi::OsString::from("dir=");
        tpmstate.push(state);
        tpmstate.push(",mode=0600");
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,clientfd=0", "--tpmstate"])
            .arg(tpmstate)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(file)
            // What is typed at a terminal is for the machine.
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => TpmError::NotInstalled,
                _ => TpmError::Start(error),
            })?;
        Ok((Process { child, log }, ours))
    }

    /// Ends it at once; gives what it has said, for an error.
    pub fn kill(mut self) -> String {
        let _ = self.child.kill();
        let mut text = Vec::new();
        // At most a sentence or two: who cannot read them does without.
        let _ = File::open(&self.log).and_then(|file| file.take(LAST_WORDS).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().replace('\n', "; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > end {
                log::warn!("swtpm does not end; it is killed");
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Its keys are for this user alone.
fn make(state: &Path) -> io::Result<()> {
    if state.is_dir() { Ok(()) } else { DirBuilder::new().mode(0o700).create(state) }
}

fn open(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(log)
}
