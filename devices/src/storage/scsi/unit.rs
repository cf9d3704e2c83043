//! The trait of SCSI units, and what passes between a unit and its controller.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::sync::Arc;

use super::sense::Sense;
use crate::disk::{Disk, IoError, Request};

/// A logical unit. Calls may come from several threads at once and never block.
///
/// What the guest sends is data to be checked: whatever is in a command, a unit answers it, and never moves more
/// than [`Command::data_len`] bytes.
pub trait Unit: Debug + Send + Sync {
    /// Starts a command.
    ///
    /// [`Command::parameters`] is empty at first. After [`Step::Parameters`] the controller copies so many bytes out
    /// of the guest's buffer (at most 64 KiB, never more than `data_len`) and calls again; the second call answers
    /// with another step.
    fn start(&self, command: &Command<'_>) -> Step<'_>;

    /// What the initiator of a command is told when the request of its [`Step::Io`] has ended. The command is the one
    /// that was started; its parameters are not needed any more.
    fn finish(&self, command: &Command<'_>, outcome: Result<(), IoError>) -> Reply;

    /// Forgets what an initiator, or all of them, set up for a while; the next command tells them.
    fn reset(&self, reset: Reset);
}

/// Who sends commands: the number of a controller, of those that may share a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Initiator(u8);

impl Initiator {
    /// How many a unit tells apart.
    pub const COUNT: usize = 64;

    /// The initiator of this number; `None` from [`Initiator::COUNT`] on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Initiator(number)) } else { None }
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Initiator> {
        (0u8..).take(Self::COUNT).map(Initiator)
    }

    /// Its number, less than [`Initiator::COUNT`].
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What a controller tells its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The initiator has begun anew: its channel was opened.
    Initiator(Initiator),
    /// The unit was reset.
    Unit,
}

/// A command as it came.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The command descriptor block, as long as the guest said, at most 16 bytes.
    pub cdb: &'a [u8],
    /// Bytes of the guest's buffer, for data of either direction.
    pub data_len: u32,
    /// The start of the guest's buffer, if the unit asked for it, else empty.
    pub parameters: &'a [u8],
    /// Who sent it.
    pub initiator: Initiator,
}

/// What the controller is to do next.
#[derive(Debug)]
pub enum Step<'u> {
    /// Copy this many bytes of the guest's buffer, at least 1, and call [`Unit::start`] again.
    Parameters(usize),
    /// Answer.
    Done(Reply),
    /// Have the engine do this to this disk, then call [`Unit::finish`]. Bytes move from or to the start of the
    /// guest's buffer.
    Io(Cow<'u, Arc<Disk>>, Request),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it went.
    pub status: ScsiStatus,
    /// Why it went so; there if and only if the status is [`ScsiStatus::CHECK_CONDITION`].
    pub sense: Option<Sense>,
    /// Bytes for the start of the guest's buffer; none (and not allocated) if the engine has moved them.
    pub data: Vec<u8>,
    /// Bytes moved in either direction, at most `data_len`.
    pub moved: u32,
}

impl Reply {
    /// It went well.
    #[must_use]
    pub const fn good() -> Self {
        Reply { status: ScsiStatus::GOOD, sense: None, data: Vec::new(), moved: 0 }
    }

    /// It went well, and the engine moved these bytes.
    #[must_use]
    pub fn moved(moved: u32) -> Self {
        Reply { moved, ..Self::good() }
    }

    /// The start of these bytes, as far as the command's allocation length and the guest's buffer reach.
    #[must_use]
    pub fn data(command: &Command<'_>, allocation_length: impl Into<u32>, mut data: Vec<u8>) -> Self {
        let moved = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let moved = moved.min(allocation_length.into()).min(command.data_len);
        data.truncate(moved as usize);
        Reply { data, moved, ..Self::good() }
    }

    /// It went wrong.
    #[must_use]
    pub fn check(sense: Sense) -> Self {
        Reply { status: ScsiStatus::CHECK_CONDITION, sense: Some(sense), ..Self::good() }
    }

    /// Somebody else has reserved the unit.
    #[must_use]
    pub fn conflict() -> Self {
        Reply { status: ScsiStatus::RESERVATION_CONFLICT, ..Self::good() }
    }
}

/// How a command ended (SAM-5 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScsiStatus(pub u8);

impl ScsiStatus {
    /// Well.
    pub const GOOD: Self = ScsiStatus(0x00);
    /// There is sense data that says why not.
    pub const CHECK_CONDITION: Self = ScsiStatus(0x02);
    /// Somebody else has reserved the unit.
    pub const RESERVATION_CONFLICT: Self = ScsiStatus(0x18);
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something is wrong.
    Check(Sense),
    /// Somebody else has reserved the unit.
    Conflict,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Check(sense) => write!(f, "{sense}"),
            Fault::Conflict => f.write_str("reserved by another"),
        }
    }
}

impl From<Sense> for Fault {
    fn from(sense: Sense) -> Self {
        Fault::Check(sense)
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Check(sense) => Reply::check(sense),
            Fault::Conflict => Reply::conflict(),
        }
    }
}

impl From<Reply> for Step<'_> {
    fn from(reply: Reply) -> Self {
        Step::Done(reply)
    }
}
