//! swtpm's control channel (`man swtpm_ioctls`): what a machine's power button and reset do to a TPM.
//!
//! Requests and answers are big-endian words on a Unix socket: a command and its arguments, a result and what it
//! brings. One request at a time; only [`Control::cancel`] does not wait for its answer, and who called it has to read
//! it later.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// A request, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// What it can do.
    Capabilities = 0x01,
    /// Power on.
    Init = 0x02,
    /// Power off, and end.
    Shutdown = 0x03,
    /// The command that runs should end.
    Cancel = 0x09,
    /// Power off.
    Stop = 0x0e,
    /// Commands come through the socket that comes along.
    SetDataFd = 0x10,
    /// The longest command or response.
    SetBufferSize = 0x11,
}

/// Capabilities: init, stop, data descriptor, buffer size.
const NEEDED: u32 = 1 << 0 | 1 << 10 | 1 << 12 | 1 << 13;
/// A first start makes keys, and the machine may have much to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who ends does not wait that long.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Why a request came to nothing.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The socket.
    #[error("swtpm does not answer")]
    Socket(#[from] io::Error),
    /// It said no.
    #[error("swtpm refuses the request {request:?} with result {result:#x}")]
    Refused {
        /// What was asked.
        request: Request,
        /// The answer.
        result: u32,
    },
    /// It lacks something.
    #[error("This swtpm is too old: it has capabilities {0:#x}, and {NEEDED:#x} are needed")]
    Capabilities(u32),
}

/// The channel; a clone shares it.
#[derive(Clone, Debug)]
pub struct Control(Arc<UnixStream>);

impl Control {
    /// Asks whether swtpm can do all that is needed.
    pub fn new(socket: UnixStream) -> Result<Self, ControlError> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let control = Control(Arc::new(socket));
        let [capabilities] = control.request(Request::Capabilities, &[])?;
        if capabilities & NEEDED == NEEDED {
            Ok(control)
        } else {
            Err(ControlError::Capabilities(capabilities))
        }
    }

    /// Gives swtpm its end of the socket for commands.
    pub fn set_data(&self, theirs: &UnixStream) -> Result<(), ControlError> {
        let request = (Request::SetDataFd as u32).to_be_bytes();
        let sent = self.0.send_with_fd(&request[..], theirs.as_raw_fd());
        sent.map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        self.answer(Request::SetDataFd).map(|[]| ())
    }

    /// Power off and on again: PCRs, sessions and objects of before are gone.
    pub fn power_on(&self, buffer_size: u32) -> Result<(), ControlError> {
        let [] = self.request(Request::Stop, &[])?;
        let [_, _, _] = self.request(Request::SetBufferSize, &buffer_size.to_be_bytes())?;
        let [] = self.request(Request::Init, &0_u32.to_be_bytes())?;
        Ok(())
    }

    /// Power off, for ever: no machine waits for it any more.
    pub fn end(&self, request: Request) -> Result<(), ControlError> {
        self.0.set_read_timeout(Some(LAST_PATIENCE))?;
        self.request(request, &[]).map(|[]| ())
    }

    /// Asks for the end of the command that runs, and does not wait.
    pub fn cancel(&self) -> io::Result<()> {
        (&*self.0).write_all(&(Request::Cancel as u32).to_be_bytes())
    }

    /// Reads what became of [`Self::cancel`]: either way the command has ended.
    pub fn cancelled(&self) -> io::Result<()> {
        (&*self.0).read_exact(&mut [0; 4])
    }

    fn request<const N: usize>(&self, request: Request, arguments: &[u8]) -> Result<[u32; N], ControlError> {
        let words = [&(request as u32).to_be_bytes(), arguments].concat();
        (&*self.0).write_all(&words)?;
        self.answer(request)
    }

    fn answer<const N: usize>(&self, request: Request) -> Result<[u32; N], ControlError> {
        let result = self.word()?;
        if result != 0 {
            return Err(ControlError::Refused { request, result });
        }
        let mut words = [0; N];
        for word in &mut words {
            *word = self.word()?;
        }
        Ok(words)
    }

    fn word(&self) -> io::Result<u32> {
        let mut word = [0; 4];
        (&*self.0).read_exact(&mut word)?;
        Ok(u32::from_be_bytes(word))
    }
}
