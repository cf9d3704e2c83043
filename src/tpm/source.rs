//! `--tpm` as users write it: `DIRECTORY`, or `unix:PATH`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Before the path of a Unix socket.
const UNIX: &str = "unix:";

/// Where the TPM is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum TpmSource {
    /// A directory for its state, made if there is none; swtpm is started.
    State(PathBuf),
    /// The control channel of a swtpm that runs.
    Socket(PathBuf),
}

/// What is wrong with the words for a TPM.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TpmSourceError {
    /// No path.
    #[error("{0:?} names no TPM; write the directory of its state, or unix:PATH for a swtpm that runs")]
    Empty(String),
    /// The program takes options apart at commas.
    #[error("{0:?} has a comma, which swtpm does not take in the path of its state")]
    Comma(String),
}

impl TpmSource {
    /// Makes a relative path one that is relative to `directory`.
    pub fn join(&mut self, directory: &Path) {
        let (TpmSource::State(path) | TpmSource::Socket(path)) = self;
        *path = directory.join(&*path);
    }
}

impl FromStr for TpmSource {
    type Err = TpmSourceError;

    fn from_str(text: &str) -> Result<Self, TpmSourceError> {
        match text.strip_prefix(UNIX) {
            Some("") => Err(TpmSourceError::Empty(text.to_owned())),
            Some(path) => Ok(TpmSource::Socket(path.into())),
            None if text.is_empty() => Err(TpmSourceError::Empty(text.to_owned())),
            None if text.contains(',') => Err(TpmSourceError::Comma(text.to_owned())),
            None => Ok(TpmSource::State(text.into())),
        }
    }
}

impl TryFrom<String> for TpmSource {
    type Error = TpmSourceError;

    fn try_from(text: String) -> Result<Self, TpmSourceError> {
        text.parse()
    }
}

impl From<TpmSource> for String {
    fn from(source: TpmSource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for TpmSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TpmSource::State(path) => write!(f, "{}", path.display()),
            TpmSource::Socket(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sources_are_the_same_thing() {
        for (text, source) in [
            ("state/tpm", TpmSource::State("state/tpm".into())),
            ("unix:/run/tpm,a", TpmSource::Socket("/run/tpm,a".into())),
        ] {
            assert_eq!(text.parse::<TpmSource>().unwrap(), source);
            assert_eq!(source.to_string(), text);
        }
        let mut source = TpmSource::Socket("tpm".into());
        source.join(Path::new("/machines"));
        assert_eq!(source.to_string(), "unix:/machines/tpm");
    }

    #[test]
    fn what_names_no_tpm_is_refused() {
        for text in ["", "unix:"] {
            assert_eq!(text.parse::<TpmSource>(), Err(TpmSourceError::Empty(text.into())));
        }
        assert_eq!("a,b".parse::<TpmSource>(), Err(TpmSourceError::Comma("a,b".into())));
    }
}
