//! What can be wrong with a VHDX file, for the person who named it.

use std::io;

use thiserror::Error;

use super::super::image::DiskError;
use crate::guid::Guid;

/// Why a VHDX file was not opened or made.
#[derive(Debug, Error)]
pub enum VhdxError {
    /// No signature.
    #[error("This is not a VHDX file: it does not start with `vhdxfile`")]
    NotVhdx,
    /// The file contradicts itself or the specification.
    #[error("The VHDX file is damaged: {0}")]
    Damaged(String),
    /// The file says that whoever opens it must know something, and this program does not.
    #[error("The VHDX file cannot be opened: it requires {0}, which is not known here")]
    Required(String),
    /// A value of [`super::CreateOptions`].
    #[error("A VHDX file cannot be made with {0}")]
    Options(String),
    /// Nobody can open the parent.
    #[error("The VHDX file is a differencing one, and its parent was not found: {0}")]
    Parent(String),
    /// The parent was written to after the child was made.
    #[error(
        "The parent is not as it was when the differencing VHDX file was made: it is {found}, not {expected}"
    )]
    ParentChanged {
        /// The parent's data write GUID.
        found: Guid,
        /// What the child expects.
        expected: Guid,
    },
    /// A chain is longer than [`super::MAX_CHAIN`], or a ring.
    #[error("The chain of parents is longer than {0} files")]
    ChainTooLong(usize),
    /// The host's file system or disk.
    #[error("The VHDX file cannot be read or written")]
    Host(#[from] io::Error),
}

impl From<VhdxError> for DiskError {
    fn from(error: VhdxError) -> Self {
        match error {
            VhdxError::Host(error) => DiskError::Host(error),
            VhdxError::Damaged(what) => DiskError::Damaged(what),
            VhdxError::NotVhdx => DiskError::Damaged(VhdxError::NotVhdx.to_string()),
            other => DiskError::Unsupported(other.to_string()),
        }
    }
}

/// Shorthand for [`VhdxError::Damaged`].
pub(super) fn damaged(what: impl Into<String>) -> VhdxError {
    VhdxError::Damaged(what.into())
}
