//! What becomes of a SCSI request block: it is checked, its unit is asked, and what the unit wants of guest memory at
//! once is done at once.

use std::sync::Arc;

use super::controller::Units;
use super::data::Data;
use super::protocol::{CDB_LEN, ShortSrb};
use super::requests::SrbEnd;
use super::scsi::protocol::opcode;
use super::scsi::{self, Command, Initiator, Reply, Step, Unit};
use crate::disk::{Disk, Request};
use crate::mem::GuestRam;
use crate::vmbus::ring::Packet;

/// Most bytes of parameters that a unit gets to see.
const MAX_PARAMETERS: usize = 64 << 10;

/// A command that the engine has to go on with.
#[derive(Debug)]
pub(super) struct Started<'p> {
    pub unit: Arc<dyn Unit>,
    pub disk: Arc<Disk>,
    pub request: Request,
    pub data: Data<'p>,
}

/// One channel's way to the units.
#[derive(Debug)]
pub(super) struct Commands {
    pub units: Units,
    initiator: Initiator,
    ram: GuestRam,
    parameters: Vec<u8>,
}

impl Commands {
    pub fn new(initiator: Initiator, ram: GuestRam) -> Self {
        Commands { units: Units::new(), initiator, ram, parameters: Vec::new() }
    }

    /// Starts a command; an error is how it ends at once, be it well.
    pub fn start<'p>(&mut self, srb: &ShortSrb, packet: &Packet<'p>) -> Result<Started<'p>, SrbEnd> {
        let len = usize::from(srb.cdb_length);
        let cdb = srb.cdb_or_sense.get(..len).filter(|_| (1..=CDB_LEN).contains(&len));
        let cdb = cdb.ok_or(SrbEnd::INVALID)?;
        let data = Data::of(packet, srb)?;
        let command = Command { cdb, data_len: data.len, parameters: &[], initiator: self.initiator };
        let here = (srb.path, srb.target) == (0, 0);
        if cdb.first() == Some(&opcode::REPORT_LUNS) {
            let reply = scsi::report_luns(&command, self.units.luns().filter(|_| here));
            return Err(SrbEnd::Reply(self.write(&data, reply)?));
        }
        let Some(unit) = self.units.get(srb.lun).filter(|_| here) else {
            return Err(SrbEnd::Absent(self.write(&data, scsi::absent(&command))?));
        };
        let mut step = unit.start(&command);
        if let Step::Parameters(len) = step {
            if !data.goes(true) {
                return Err(SrbEnd::INVALID);
            }
            self.parameters.resize(len.min(MAX_PARAMETERS).min(data.len as usize), 0);
            data.read(&self.ram, &mut self.parameters).map_err(|_| SrbEnd::INVALID)?;
            step = unit.start(&Command { parameters: &self.parameters, ..command });
        }
        match step {
            Step::Done(reply) => Err(SrbEnd::Reply(self.write(&data, reply)?)),
            Step::Io(disk, request)
                if data.goes(!matches!(request, Request::Read { .. })) || request.moves() == 0 =>
            {
                Ok(Started { unit: Arc::clone(unit), disk: disk.into_owned(), request, data })
            }
            Step::Io(..) | Step::Parameters(_) => Err(SrbEnd::INVALID),
        }
    }

    /// Gives the guest a reply's data.
    fn write(&self, data: &Data<'_>, reply: Reply) -> Result<Reply, SrbEnd> {
        if reply.data.is_empty() {
            return Ok(reply);
        }
        let written = data.goes(false) && data.write(&self.ram, &reply.data).is_ok();
        if written { Ok(reply) } else { Err(SrbEnd::INVALID) }
    }
}
