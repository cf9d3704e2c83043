//! `busman screenshot`: what the guest shows, in a file.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::client::Client;
use super::{CtlError, VM};

/// What every PNG file begins with.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Arguments of `busman screenshot`.
#[derive(Args, Debug)]
pub struct Screenshot {
    /// The machine's control socket
    #[arg(long, value_name = "PATH", env = "BUSMAN_SOCKET")]
    socket: Option<PathBuf>,
    /// Where the picture goes; a file that is there is replaced
    #[arg(value_name = "FILE.png")]
    file: PathBuf,
}

impl Screenshot {
    /// Asks the machine, and writes the file.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn execute(&self) -> Result<(), CtlError> {
        let mut client = Client::new(self.socket.clone().ok_or(CtlError::NoSocket)?);
        let answer = client.call("GET", &format!("{VM}/screen"), None)?;
        if !answer.body.starts_with(SIGNATURE) {
            return Err(CtlError::Protocol("it is no PNG file".to_owned()));
        }
        fs::write(&self.file, answer.body)
            .map_err(|source| CtlError::File { path: self.file.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Fixture;
    use crate::control::{Command, Refusal};
    use crate::machine::MachineError;

    #[test]
    fn a_screenshot_is_a_file_or_a_sentence() {
        let api = Fixture::new();
        let shot = |file: PathBuf| Screenshot { socket: Some(api.path.clone()), file }.execute();
        let file = api.path.with_extension("png");
        shot(file.clone()).unwrap();
        assert_eq!(api.asked(), [Command::Screen]);
        let picture = png::Decoder::new(std::io::Cursor::new(fs::read(&file).unwrap())).read_info().unwrap();
        assert_eq!((picture.info().width, picture.info().height), (32, 20));
        let nowhere = shot("/nonexistent/a.png".into()).unwrap_err();
        assert_eq!(nowhere.to_string(), "Cannot write /nonexistent/a.png");
        api.vm.refuse.lock().unwrap().push(Refusal::Device(MachineError::NotThere("video".into())));
        assert_eq!(shot(file).unwrap_err().to_string(), "The device video is not on the bus");
        let none = Screenshot { socket: None, file: "a".into() }.execute().unwrap_err();
        assert!(matches!(none, CtlError::NoSocket));
    }
}
