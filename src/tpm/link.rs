//! A connection to swtpm: the control channel, and the socket for commands.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use devices::tpm::protocol::{BUFFER_SIZE, ResponseHeader};
use zerocopy::FromBytes;

use super::control::{Control, ControlError, Request};
use super::process::Process;
use super::{TpmError, TpmSource, commands};

/// Longer than any driver waits: some keys take minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// A TPM that is there.
#[derive(Debug)]
pub struct Link {
    /// Power.
    pub control: Control,
    /// Commands and responses.
    pub data: Arc<UnixStream>,
    /// If we started it. Dropped last, when the sockets are closed.
    process: Option<Process>,
}

impl Link {
    /// Starts a swtpm or connects to one, and makes sure that it is a TPM 2.0.
    pub fn open(source: &TpmSource) -> Result<Self, TpmError> {
        let (process, socket) = match source {
            TpmSource::State(state) => {
                let (process, socket) = Process::start(state)?;
                (Some(process), socket)
            }
            TpmSource::Socket(path) => {
                let failed = |source| TpmError::Connect { path: path.clone(), source };
                (None, UnixStream::connect(path).map_err(failed)?)
            }
        };
        let opened = Self::connect(socket);
        match (opened, process) {
            (Ok((control, data)), process) => {
                let mut link = Link { control, data, process };
                link.check()?;
                Ok(link)
            }
            (Err(source), Some(process)) => Err(TpmError::Fails { words: process.kill(), source }),
            (Err(source), None) => Err(TpmError::Control(source)),
        }
    }

    fn connect(socket: UnixStream) -> Result<(Control, Arc<UnixStream>), ControlError> {
        let control = Control::new(socket)?;
        let (data, theirs) = UnixStream::pair()?;
        data.set_read_timeout(Some(PATIENCE))?;
        data.set_write_timeout(Some(PATIENCE))?;
        control.set_data(&theirs)?;
        control.power_on(buffer_size())?;
        Ok((control, Arc::new(data)))
    }

    /// swtpm may be a TPM 1.2 too, which no firmware here knows.
    fn check(&mut self) -> Result<(), TpmError> {
        let started = self.execute(&commands::startup())?;
        if commands::response_code(&started) != Some(0) {
            return Err(TpmError::NotTpm2);
        }
        self.execute(&commands::shutdown())?;
        Ok(())
    }

    /// Power off and on again.
    pub fn power_on(&self) -> Result<(), TpmError> {
        Ok(self.control.power_on(buffer_size())?)
    }

    /// Carries out a command; takes as long as it takes.
    pub fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.exchange(command).map_err(TpmError::Lost)
    }

    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        (&*self.data).write_all(command)?;
        let mut response = vec![0; size_of::<ResponseHeader>()];
        (&*self.data).read_exact(&mut response)?;
        let size = ResponseHeader::read_from_prefix(&response).map_or(0, |(header, _)| header.size.get());
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if !(response.len()..=BUFFER_SIZE).contains(&size) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a response of {size} bytes")));
        }
        let header = response.len();
        response.resize(size, 0);
        (&*self.data).read_exact(response.get_mut(header..).unwrap_or_default())?;
        Ok(response)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One that we did not start goes on, without power. It may be the reason why we end.
        let request = if self.process.is_some() { Request::Shutdown } else { Request::Stop };
        if let Err(error) = self.control.end(request) {
            log::debug!("The TPM's power cannot be taken: {error}");
        }
        // It ends when nobody has the other end; others may still hold ours.
        let _ = self.data.shutdown(std::net::Shutdown::Both);
    }
}

fn buffer_size() -> u32 {
    u32::try_from(BUFFER_SIZE).unwrap_or(u32::MAX)
}
