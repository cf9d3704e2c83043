//! The table of a unit's commands: what is looked up for each command, and shown to guests that ask for it.

use super::gate::{Access, Gate};
use super::protocol::cdb::ReportSupportedOperationCodes;
use super::requests::parse;
use super::sense::{self, Sense};
use super::unit::{Command, Fault, Reply, Step};
use crate::guest_debug;

/// What a command leads to.
pub(super) type Handled<'u> = Result<Step<'u>, Fault>;
/// Serves a command of a unit; its CDB is at least as long as the table says.
pub(super) type Handler<U> = for<'u, 'c> fn(&'u U, &Command<'c>) -> Handled<'u>;

/// A command.
#[derive(Debug)]
pub(super) struct Operation<U: 'static> {
    name: &'static str,
    opcode: u8,
    /// The service action, if the opcode has several.
    action: Option<u8>,
    /// Bits of the CDB behind the opcode that mean something, and so its length.
    usage: &'static [u8],
    access: Access,
    handler: Handler<U>,
    /// Whether this unit has the command; all have it if there is nothing to ask.
    present: Option<fn(&U) -> bool>,
}

impl<U> Operation<U> {
    pub const fn new(
        (opcode, name): (u8, &'static str),
        usage: &'static [u8],
        access: Access,
        handler: Handler<U>,
    ) -> Self {
        Operation { name, opcode, action: None, usage, access, handler, present: None }
    }

    /// One of an opcode's service actions.
    pub const fn action(self, action: u8) -> Self {
        Operation { action: Some(action), ..self }
    }

    /// Only some units have it.
    pub const fn only_if(self, present: fn(&U) -> bool) -> Self {
        Operation { present: Some(present), ..self }
    }

    fn cdb_len(&self) -> usize {
        1 + self.usage.len()
    }

    fn is_present(&self, unit: &U) -> bool {
        self.present.is_none_or(|present| present(unit))
    }
}

/// All commands of a kind of unit.
#[derive(Debug)]
pub(super) struct Operations<U: 'static> {
    /// Ordered by opcode.
    list: &'static [Operation<U>],
    /// For each opcode the index of its first operation, or the length of the list.
    first: [u8; 256],
}

impl<U> Operations<U> {
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "evaluated by the compiler"
    )]
    pub const fn new(list: &'static [Operation<U>]) -> Self {
        assert!(list.len() < 256);
        let mut first = [list.len() as u8; 256];
        let mut i = list.len();
        while i > 0 {
            i -= 1;
            assert!(i == 0 || list[i - 1].opcode <= list[i].opcode, "the list is ordered by opcode");
            first[list[i].opcode as usize] = i as u8;
        }
        Operations { list, first }
    }

    /// The operations of an opcode that the unit has.
    fn of<'a>(&'a self, unit: &'a U, opcode: u8) -> impl Iterator<Item = &'static Operation<U>> + 'a {
        let first = self.first.get(usize::from(opcode)).copied().unwrap_or(u8::MAX);
        let list = self.list.get(usize::from(first)..).unwrap_or_default();
        list.iter().take_while(move |it| it.opcode == opcode).filter(|it| it.is_present(unit))
    }

    fn find(&self, unit: &U, cdb: &[u8]) -> Result<&'static Operation<U>, Sense> {
        let opcode = *cdb.first().ok_or(sense::INVALID_COMMAND_OPERATION_CODE)?;
        let mut operations = self.of(unit, opcode).peekable();
        if operations.peek().is_none() {
            return Err(sense::INVALID_COMMAND_OPERATION_CODE);
        }
        let action = cdb.get(1).map(|byte| byte & SERVICE_ACTION);
        let operation = operations
            .find(|it| it.action.is_none() || it.action == action)
            .ok_or(const { Sense::cdb_bit(1, 4) })?;
        if cdb.len() < operation.cdb_len() {
            return Err(sense::INVALID_FIELD_IN_CDB);
        }
        Ok(operation)
    }

    /// Serves a command.
    pub fn start<'u>(&self, unit: &'u U, gate: &Gate, command: &Command<'_>) -> Step<'u> {
        let operation = match self.find(unit, command.cdb) {
            Ok(operation) => operation,
            Err(sense) => {
                guest_debug!("scsi: {:02x?}: {sense}", command.cdb);
                return Reply::check(sense).into();
            }
        };
        let passed = gate.pass(command.initiator, operation.access, command.cdb);
        passed.and_then(|()| (operation.handler)(unit, command)).unwrap_or_else(|fault| {
            guest_debug!("scsi: {} {:02x?}: {fault}", operation.name, command.cdb);
            Step::Done(fault.into())
        })
    }

    /// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35).
    pub fn report<'u>(&self, unit: &U, command: &Command<'_>) -> Handled<'u> {
        let cdb: &ReportSupportedOperationCodes = parse(command.cdb)?;
        let timeouts = cdb.options & RCTD != 0;
        let data = match cdb.options & REPORTING_OPTIONS {
            0 => self.all(unit, timeouts),
            how @ 1..=3 => self.one(unit, how, cdb.requested_opcode, cdb.requested_action.get(), timeouts)?,
            _ => return Err(Sense::cdb_bit(2, 2).into()),
        };
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    fn all(&self, unit: &U, timeouts: bool) -> Vec<u8> {
        let mut list = Vec::new();
        for operation in self.list.iter().filter(|it| it.is_present(unit)) {
            let flags = if timeouts { 0x02 } else { 0 } | u8::from(operation.action.is_some());
            list.extend([operation.opcode, 0, 0, operation.action.unwrap_or(0), 0, flags]);
            list.extend(cdb_len(operation.cdb_len()));
            if timeouts {
                list.extend(NO_TIMEOUTS);
            }
        }
        let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
        [&len.to_be_bytes()[..], &list].concat()
    }

    fn one(&self, unit: &U, how: u8, opcode: u8, action: u16, timeouts: bool) -> Result<Vec<u8>, Sense> {
        let has_actions = self.of(unit, opcode).any(|it| it.action.is_some());
        // 1 asks for an opcode without service actions, 2 for one with them, 3 for either.
        match (how, has_actions) {
            (1, true) => return Err(Sense::cdb(3)),
            (2, false) if self.of(unit, opcode).next().is_some() => return Err(Sense::cdb(4)),
            _ => {}
        }
        let wanted =
            |it: &&Operation<U>| it.action.map_or(how == 1 || action == 0, |own| u16::from(own) == action);
        let flags = if timeouts { 0x80 } else { 0 };
        let Some(operation) = self.of(unit, opcode).find(wanted) else {
            return Ok(vec![0, flags | NOT_SUPPORTED, 0, 0]);
        };
        let mut data = vec![0, flags | SUPPORTED];
        data.extend(cdb_len(operation.cdb_len()));
        data.push(operation.opcode);
        data.extend(operation.usage);
        if let (Some(action), Some(byte)) = (operation.action, data.get_mut(5)) {
            *byte = *byte & !SERVICE_ACTION | action;
        }
        if timeouts {
            data.extend(NO_TIMEOUTS);
        }
        Ok(data)
    }
}

/// Low bits of a CDB's second byte: the service action.
const SERVICE_ACTION: u8 = 0x1F;
/// Timeouts are asked for.
const RCTD: u8 = 0x80;
/// Which commands are asked for.
const REPORTING_OPTIONS: u8 = 0x07;
/// There is no such command.
const NOT_SUPPORTED: u8 = 1;
/// There is, as the standard says.
const SUPPORTED: u8 = 3;
/// Command timeouts descriptor that names no time.
const NO_TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn cdb_len(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(0).to_be_bytes()
}

/// Usage of the CDBs of READ and its kin, behind the opcode: address and length, and these flags.
macro_rules! usage {
    (6) => {
        &[0x1F, 0xFF, 0xFF, 0xFF, 0]
    };
    (10, $flags:literal) => {
        &[$flags, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0]
    };
    (12, $flags:literal) => {
        &[$flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]
    };
    (16, $flags:literal) => {
        &[$flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]
    };
}

/// The opcode and its name.
macro_rules! op {
    ($name:ident) => {
        ($crate::storage::scsi::protocol::opcode::$name, stringify!($name))
    };
    ($opcode:ident, $action:ident) => {
        ($crate::storage::scsi::protocol::opcode::$opcode, stringify!($action))
    };
}

pub(super) use {op, usage};
