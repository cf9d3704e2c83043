//! `--vnc` as users write it, on the command line and in TOML alike:
//! `ADDRESS[,password-file=FILE][,tls-cert=FILE,tls-key=FILE][,keymap=LAYOUT]`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::keymap::{KeymapError, Layout};

/// The word for a keyboard layout.
const KEYMAP: &str = "keymap";
/// Before the path of a Unix socket.
const UNIX: &str = "unix:";

/// Where viewers come in, and what they have to bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VncOptions {
    /// Where they come in.
    pub listen: Address,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// TLS.
    pub tls: Option<TlsFiles>,
    /// The guest's keyboard layout, for viewers that tell keys by what is printed on them.
    pub keymap: Option<Layout>,
}

/// A TCP port or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket, for this user alone.
    Unix(PathBuf),
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is wrong with the words for VNC.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VncOptionError {
    /// No address.
    #[error("{0:?} is no address for VNC; write 127.0.0.1:5900, [::1]:5900 or unix:PATH")]
    Address(String),
    /// A word that means nothing.
    #[error("{0:?} is no option of VNC; options are password-file, tls-cert, tls-key and keymap")]
    Unknown(String),
    /// A word without a value.
    #[error("{0} has no value; write {0}={form}", form = if .0 == KEYMAP { "LAYOUT" } else { "FILE" })]
    NoValue(String),
    /// A keyboard that is none.
    #[error(transparent)]
    Keymap(#[from] KeymapError),
    /// A word that is there twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// One file of two.
    #[error("TLS needs both tls-cert=FILE and tls-key=FILE")]
    HalfTls,
    /// A machine for everybody.
    #[error(
        "VNC on {0} would give the machine to whoever reaches this address: add password-file=FILE, or listen on \
         127.0.0.1 or unix:PATH"
    )]
    Open(SocketAddr),
}

impl FromStr for Address {
    type Err = VncOptionError;

    fn from_str(text: &str) -> Result<Self, VncOptionError> {
        let wrong = || VncOptionError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix(UNIX) {
            return if path.is_empty() { Err(wrong()) } else { Ok(Address::Unix(path.into())) };
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            let port: u16 = port.parse().map_err(|_| wrong())?;
            return Ok(Address::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Address::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for VncOptions {
    type Err = VncOptionError;

    fn from_str(text: &str) -> Result<Self, VncOptionError> {
        // In a path a comma is written twice, as for disks; no path has a zero byte.
        let text = text.replace(",,", "\0");
        let mut parts = text.split(',').map(|part| part.replace('\0', ","));
        let listen: Address = parts.next().unwrap_or_default().parse()?;
        let (mut password_file, mut cert, mut key, mut keymap) = (None, None, None, None);
        for part in parts {
            let (word, value) = part.split_once('=').unwrap_or((&part, ""));
            let place: &mut Option<String> = match word {
                "password-file" => &mut password_file,
                "tls-cert" => &mut cert,
                "tls-key" => &mut key,
                KEYMAP => &mut keymap,
                _ => return Err(VncOptionError::Unknown(word.to_owned())),
            };
            if value.is_empty() {
                return Err(VncOptionError::NoValue(word.to_owned()));
            }
            if place.replace(value.into()).is_some() {
                return Err(VncOptionError::Twice(word.to_owned()));
            }
        }
        let keymap = keymap.map(|layout| layout.parse()).transpose()?;
        let password_file = password_file.map(PathBuf::from);
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.into(), key: key.into() }),
            (None, None) => None,
            _ => return Err(VncOptionError::HalfTls),
        };
        match listen {
            // A certificate says who the server is; who looks, only a password says.
            Address::Tcp(address) if !address.ip().is_loopback() && password_file.is_none() => {
                Err(VncOptionError::Open(address))
            }
            listen => Ok(VncOptions { listen, password_file, tls, keymap }),
        }
    }
}

impl VncOptions {
    /// The files that have to be there, each with its word.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let tls = self.tls.iter().flat_map(|TlsFiles { cert, key }| [("tls-cert", cert), ("tls-key", key)]);
        let password = self.password_file.iter().map(|file| ("password-file", file));
        password.chain(tls).map(|(word, path)| (word, path.as_path()))
    }

    /// Makes relative paths relative to a directory.
    pub fn join(&mut self, directory: &Path) {
        let VncOptions { listen, password_file, tls, keymap: _ } = self;
        let tls = tls.iter_mut().flat_map(|TlsFiles { cert, key }| [cert, key]);
        let socket = match listen {
            Address::Unix(path) => Some(path),
            Address::Tcp(_) => None,
        };
        for path in password_file.iter_mut().chain(tls).chain(socket) {
            *path = directory.join(&*path);
        }
    }
}

impl fmt::Display for VncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &dyn fmt::Display| value.to_string().replace(',', ",,");
        f.write_str(&text(&self.listen))?;
        self.files().try_for_each(|(word, path)| write!(f, ",{word}={}", text(&path.display())))?;
        self.keymap.iter().try_for_each(|layout| write!(f, ",{KEYMAP}={layout}"))
    }
}

impl TryFrom<String> for VncOptions {
    type Error = VncOptionError;

    fn try_from(text: String) -> Result<Self, VncOptionError> {
        text.parse()
    }
}

impl From<VncOptions> for String {
    fn from(options: VncOptions) -> Self {
        options.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_options_and_are_written_as_they_are_read() {
        for text in [
            "127.0.0.1:5900",
            "[::1]:5901",
            "unix:/run/vm,,1/vnc",
            "0.0.0.0:5900,password-file=/p",
            "[::]:5900,password-file=p,,w,tls-cert=c,tls-key=k",
            "unix:vnc,tls-cert=c,tls-key=k",
            "unix:vnc,keymap=de(nodeadkeys)",
        ] {
            let options: VncOptions = text.parse().unwrap();
            assert_eq!(options.to_string(), text);
            assert_eq!(serde_json::from_value::<VncOptions>(serde_json::json!(options)).unwrap(), options);
        }
        let local: VncOptions = "localhost:1".parse().unwrap();
        assert_eq!(local.to_string(), "127.0.0.1:1");
    }

    #[test]
    fn mistakes_are_sentences() {
        let error = |text: &str| text.parse::<VncOptions>().unwrap_err().to_string();
        for text in ["", "5900", ":5900", "localhost", "localhost:x", "example.org:5900", "unix:"] {
            let wanted =
                format!("{text:?} is no address for VNC; write 127.0.0.1:5900, [::1]:5900 or unix:PATH");
            assert_eq!(error(text), wanted);
        }
        assert_eq!(
            error("unix:a,password=x"),
            "\"password\" is no option of VNC; options are password-file, tls-cert, tls-key and keymap"
        );
        assert_eq!(error("unix:a,password-file"), "password-file has no value; write password-file=FILE");
        assert_eq!(error("unix:a,keymap="), "keymap has no value; write keymap=LAYOUT");
        assert!(error("unix:a,keymap=../de").starts_with("\"../de\" is no keyboard layout"));
        assert_eq!(error("unix:a,tls-key=a,tls-key=b"), "tls-key is given twice");
        assert_eq!(error("unix:a,tls-key=a"), "TLS needs both tls-cert=FILE and tls-key=FILE");
    }

    #[test]
    fn nobody_gives_a_machine_to_everybody_by_mistake() {
        for text in ["0.0.0.0:5900", "[::]:5900", "192.0.2.1:5900,tls-cert=c,tls-key=k"] {
            let error = text.parse::<VncOptions>().unwrap_err();
            assert!(matches!(error, VncOptionError::Open(_)), "{text}: {error}");
        }
        assert_eq!(
            "0.0.0.0:5900".parse::<VncOptions>().unwrap_err().to_string(),
            "VNC on 0.0.0.0:5900 would give the machine to whoever reaches this address: add password-file=FILE, \
             or listen on 127.0.0.1 or unix:PATH"
        );
    }

    #[test]
    fn relative_paths_follow_the_file_that_names_them() {
        let mut options: VncOptions = "unix:a,password-file=/b,tls-cert=c,tls-key=d".parse().unwrap();
        options.join(Path::new("/dir"));
        assert_eq!(options.to_string(), "unix:/dir/a,password-file=/b,tls-cert=/dir/c,tls-key=/dir/d");
    }
}
